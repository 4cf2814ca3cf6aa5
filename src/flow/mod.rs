//! The corridor: receive -> authenticate -> journal -> translate -> identify -> deliver -> confirm.
pub mod ports;
