//! The whole house, with stand-ins for the neighbours.
mod chaos;
mod door;
mod faults;
mod follow_up;
mod identity;
mod mappings;
mod openhim;
mod pushes;
mod referral;
mod tls;
mod upgrade;
mod world;
