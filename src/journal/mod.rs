//! The durable store of transactions, of who is who, and of open requests.
pub mod claim;
pub mod embedded;
mod file;
mod rows;
mod schema;
mod writer;

#[cfg(test)]
mod contract;
