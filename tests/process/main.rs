//! The mediator as a process of its own: killed, asked on the command line, read over the shoulder.
mod backup;
mod cli;
#[cfg(feature = "failpoints")]
mod crash;
#[path = "../it/description.rs"]
#[expect(dead_code, reason = "answers are tried in the other tests")]
mod description;
mod leaks;
mod manual;
mod process;
#[path = "../it/world.rs"]
#[expect(dead_code, reason = "the world of the other tests has a mediator in it")]
mod world;
