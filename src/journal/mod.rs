//! The durable store of transactions, of who is who, and of open requests.
pub mod audit;
pub mod backup;
pub mod claim;
pub mod embedded;
mod file;
mod follow_ups;
mod hand;
#[cfg(feature = "simulation")]
pub mod one_thread;
pub mod rekey;
mod retain;
mod rows;
mod schema;
pub mod seal;
mod writer;

#[cfg(test)]
mod contract;
#[cfg(test)]
#[path = "contract.rs"]
#[expect(clippy::duplicate_mod, reason = "one suite for journals in clear and for sealed ones")]
mod contract_sealed;
