//! Skeleton.

mod access_log;
mod data_plane;
mod http;
mod limits;
mod listener;
mod tables;
mod upstream;

fn main() {}
