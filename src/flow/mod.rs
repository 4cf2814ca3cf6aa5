//! The corridor: receive -> authenticate -> journal -> translate -> identify -> deliver -> confirm.
pub mod audit;
pub mod confirm;
pub mod corridor;
pub mod deliver;
pub mod envelope;
pub mod follow_ups;
pub mod gate;
pub mod identify;
pub mod lapse;
pub mod lookups;
pub mod orchestrations;
pub mod poll;
pub mod ports;
pub mod retry;
pub mod schedule;

/// Long work without a pause: others are served meanwhile.
pub fn off_the_loop<T>(work: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}
