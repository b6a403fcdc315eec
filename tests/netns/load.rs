//! Many requests at once, from a program that counts what is not as HTTP has it.

use mesh_tests::Failure;
use mesh_tests::netns::{Mesh, ready};

#[test]
fn no_request_of_many_is_lost() -> Result<(), Failure> {
    const REQUESTS: &str = "10000";
    if !ready(&["h2load"])? {
        return Ok(());
    }
    let mesh = Mesh::start()?;
    for address in ["10.96.0.10", "[fd00:96::10]", "10.7.0.3"] {
        // It would leave the brackets of an address out of `Host`.
        let to = format!("--connect-to={address}:8080");
        let words = [
            "h2load",
            "--h1",
            "-n",
            REQUESTS,
            "-c",
            "100",
            "-t",
            "2",
            &to,
            "http://shop:8080/",
        ];
        let said = mesh.host(0)?.run(&words)?;
        let whole = format!(
            "{REQUESTS} total, {REQUESTS} started, {REQUESTS} done, {REQUESTS} succeeded, 0 failed, 0 errored"
        );
        assert!(said.contains(&whole), "{address}: {said}");
        let statuses = format!("{REQUESTS} 2xx, 0 3xx, 0 4xx, 0 5xx");
        assert!(said.contains(&statuses), "{address}: {said}");
    }
    Ok(())
}
