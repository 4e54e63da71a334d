//! End-to-end tests of facron on the real kernel.
