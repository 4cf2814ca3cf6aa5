//! What the corridor carries, free of any system, file or clock.
pub mod audit;
pub mod fhir;
pub mod follow_up;
pub mod identifier;
pub mod message;
pub mod orchestration;
pub mod person;
pub mod plan;
pub mod record;
pub mod redact;
