//! The mediator as a process of its own: killed, asked on the command line, read over the shoulder.
mod backup;
mod cli;
#[cfg(feature = "failpoints")]
mod crash;
#[path = "../it/description.rs"]
#[expect(dead_code, reason = "answers are tried in the other tests")]
mod description;
mod disk;
mod floods;
mod leaks;
mod manual;
mod process;
#[path = "../it/rude.rs"]
#[expect(dead_code, reason = "the other tests mend it")]
mod rude;
mod slow_senders;
#[path = "../it/world.rs"]
#[expect(dead_code, reason = "the world of the other tests has a mediator in it")]
mod world;
