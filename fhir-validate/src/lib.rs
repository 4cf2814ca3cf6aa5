//! Checks FHIR R4 resources against the snapshots of StructureDefinitions: cardinality, types, formats
//! of primitives, unknown elements, fixed and pattern values, required bindings, choices, slices,
//! reference targets, and the invariants that matter for the types a mediator carries
//! (<https://hl7.org/fhir/R4/validation.html>).
//!
//! No message ever quotes a value of the resource: it may be a patient's.
mod definitions;
mod invariant;
mod locate;
mod primitive;
mod slice;
mod walk;

pub use definitions::{Child, Definitions};
pub use locate::locate;

use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    Error,
    Warning,
}

/// One thing that is wrong (<https://hl7.org/fhir/R4/operationoutcome.html>).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Issue {
    pub severity: Severity,
    /// IssueType: `structure`, `required`, `value`, `code-invalid`, `invariant`, `not-supported`.
    pub code: &'static str,
    /// FHIRPath of the element: `Patient.name[0].given[1]`.
    pub expression: String,
    /// What was expected, in words.
    pub message: String,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.expression, self.message)
    }
}
