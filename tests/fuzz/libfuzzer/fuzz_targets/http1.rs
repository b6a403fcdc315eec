//! `mesh_fuzz::http::http1` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mesh_fuzz::http::http1(data));
