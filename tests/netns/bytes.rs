//! Plain TCP: a server that speaks first, and ends of one direction at a time.

use mesh_tests::netns::{Mesh, ready};
use mesh_tests::{Failure, run};

#[test]
fn bytes_go_through_both_ways_and_so_do_their_ends() -> Result<(), Failure> {
    if !ready(&["ci-python"])? {
        return Ok(());
    }
    let mut mesh = Mesh::start()?;
    mesh.second_proxy(1, "vault", 7000)?;
    mesh.python_server(1, "bytes.py", 7000)?;
    for address in ["10.96.0.30", "fd00:96::30", "10.7.0.2"] {
        let mut client = mesh.python(0, "ask_bytes.py")?;
        let output = run(client.args([address, "7000"]))?;
        assert_eq!(String::from_utf8(output.stdout)?, "ok\n", "{address}");
    }
    let record = mesh.record("web-0", |record| record["protocol"] == "tcp")?;
    assert_eq!(
        (&record["service"], &record["reason"], &record["tls"]),
        (&"vault".into(), &().into(), &"TLSv1.3".into()),
        "{record}"
    );
    // Not everybody may: `api` does not call it, and a stranger has no identity.
    let mut client = mesh.python(2, "ask_bytes.py")?;
    assert!(!client.args(["10.7.0.2", "7000"]).output()?.status.success());
    let got = mesh
        .network
        .switch
        .curl(&["--max-time", "5", "telnet://10.7.0.2:7000"])?;
    assert!(!got.body.contains("hello"), "{got:?}");
    Ok(())
}
