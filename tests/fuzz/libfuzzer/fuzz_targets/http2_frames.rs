//! `mesh_fuzz::http::http2_frames` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mesh_fuzz::http::http2_frames(data));
