//! The whole house, with stand-ins for the neighbours.
mod answers;
mod chaos;
mod clock;
mod door;
mod faults;
mod follow_up;
mod hang;
mod identity;
mod mappings;
mod openhim;
mod pushes;
mod referral;
mod rude;
mod tls;
mod world;
