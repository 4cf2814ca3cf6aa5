//! The neighbours, a room each, in the shape that its system needs. Rooms don't know each other.
pub mod callbacks;
pub mod cht;
pub mod client;
pub mod fhir_server;
pub mod openhim;
