//! The mediator as a process of its own: killed, asked on the command line, read over the shoulder.
mod cli;
#[cfg(feature = "failpoints")]
mod crash;
mod disk;
mod leaks;
mod manual;
mod process;
mod slow_senders;
#[path = "../it/world.rs"]
#[expect(dead_code, reason = "the world of the other tests has a mediator in it")]
mod world;
