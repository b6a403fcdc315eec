//! A gibibyte each way, and what the proxies take of memory for it.

use mesh_tests::netns::ready;
use mesh_tests::{Failure, run};

use crate::memory::mib;
use crate::mesh::{FILES, STREAMS, VAULT, memory, start};
use crate::{is_long, say};

/// What a proxy may take at most, whatever passes. Buffers of the sockets are the system's.
const MORE_MAX: usize = 16 << 20;

#[test]
fn memory_is_bounded_whatever_passes() -> Result<(), Failure> {
    if !ready(&["ci-python"])? {
        return Ok(());
    }
    let bytes: usize = if is_long() { 1 << 30 } else { 64 << 20 };
    let mut mesh = start()?;
    mesh.python_server(1, "big.py", 8080)?;
    mesh.python_server(1, "big.py", 7000)?;
    mesh.python_server(1, "interop_server.py", 9090)?;
    say(&format!(
        "load: {} MiB each way; resident MiB of the caller's proxy and of the callee's",
        bytes >> 20
    ));
    say("load: kind      before        peak         after");
    for (kind, address) in [("http1", FILES), ("http2", STREAMS), ("tcp", VAULT)] {
        let proxies = memory(&mesh)?;
        let before = [proxies[0].resident()?, proxies[1].resident()?];
        for proxy in proxies {
            proxy.forget_peak()?;
        }
        let mut client = mesh.python(0, "much.py")?;
        let output = run(client.args([kind, address, &bytes.to_string()]))?;
        assert_eq!(String::from_utf8(output.stdout)?, "ok\n");
        let peak = [proxies[0].peak()?, proxies[1].peak()?];
        let after = [proxies[0].resident()?, proxies[1].resident()?];
        let both = |[caller, callee]: [usize; 2]| format!("{} {}", mib(caller), mib(callee));
        say(&format!(
            "load: {kind:6} {:>12} {:>12} {:>12}",
            both(before),
            both(peak),
            both(after)
        ));
        for (before, peak) in before.into_iter().zip(peak) {
            assert!(peak < before + MORE_MAX, "{kind}: {before} {peak}");
        }
    }
    Ok(())
}
