//! facron's protocol.

mod diagnostic;
mod record;
mod rule;
mod status;
mod text;

pub use diagnostic::{Diagnostic, Severity};
pub use record::{Outcome, OutcomeState, Record};
pub use rule::{Rule, RuleId, RuleRef, Source, State};
pub use status::{Events, Jobs, Queue, Status};
pub use text::Text;
