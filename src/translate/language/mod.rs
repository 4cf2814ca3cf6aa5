//! The mapping language: YAML in the shape of what is made, read forwards and backwards.
pub mod back;
pub mod codec;
pub mod compile;
pub mod eval;
mod guards;
pub mod mistake;
pub mod path;
pub mod reach;
pub mod script;
pub mod spec;
pub mod table;
pub mod tree;
pub mod yaml;

#[cfg(test)]
mod tests;
