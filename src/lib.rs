//! An OpenHIM mediator between the Community Health Toolkit (CHT) and FHIR R4 systems.
//! `docs/ARCHITECTURE.md` shows the house; `README.md` how to use it.
pub mod cli;
pub mod config;
pub mod domain;
pub mod failpoint;
pub mod flow;
pub mod house;
pub mod http;
pub mod identity;
pub mod journal;
pub mod planted;
pub mod sandbox;
pub mod standins;
pub mod systems;
pub mod translate;
pub mod version;
