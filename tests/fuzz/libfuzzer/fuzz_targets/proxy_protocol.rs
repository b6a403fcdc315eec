//! `mesh_fuzz::proxied` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mesh_fuzz::proxied(data));
