//! Bugs for the simulation to find (`tests/sim`), planted one at a time where somebody could make them.
//! Compiled to nothing without the feature `simulation`.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    AcknowledgeBeforeWrite,
    MarkBeforeDelivery,
    NoLookUpBeforeRetry,
    OrderDroppedOnRetry,
    WatermarkMovedTooEarly,
    OldVersionTakenForNew,
    NoWaitAfterDoubt,
    NoWaitAfterRestart,
    LessonLostOnFullDisk,
}

pub const BUGS: &[Bug] = &[
    Bug::AcknowledgeBeforeWrite,
    Bug::MarkBeforeDelivery,
    Bug::NoLookUpBeforeRetry,
    Bug::OrderDroppedOnRetry,
    Bug::WatermarkMovedTooEarly,
    Bug::OldVersionTakenForNew,
    Bug::NoWaitAfterDoubt,
    Bug::NoWaitAfterRestart,
    Bug::LessonLostOnFullDisk,
];

#[cfg(feature = "simulation")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// In this thread, which is all that a simulation has.
#[cfg(feature = "simulation")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

#[cfg(feature = "simulation")]
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

#[cfg(not(feature = "simulation"))]
pub fn is_planted(_bug: Bug) -> bool {
    false
}
