//! `mesh_fuzz::first_bytes` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mesh_fuzz::first_bytes(data));
