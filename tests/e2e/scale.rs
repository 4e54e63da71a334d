//! Large trees and busy file systems: what they cost.
