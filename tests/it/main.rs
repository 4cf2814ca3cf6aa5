//! The whole house, with stand-ins for the neighbours.
mod api;
mod attack;
mod audit;
mod chaos;
mod description;
mod door;
mod faults;
mod follow_up;
mod identity;
mod mappings;
mod openhim;
mod pushes;
mod raw;
mod referral;
mod tls;
mod upgrade;
mod world;
