//! The corridor: receive -> authenticate -> journal -> translate -> identify -> deliver -> confirm.
pub mod confirm;
pub mod corridor;
pub mod deliver;
pub mod envelope;
pub mod gate;
pub mod identify;
pub mod poll;
pub mod ports;
pub mod retry;
pub mod schedule;
