//! `meshp redirect` against the kernel: what is loaded, changed and left behind.

use std::os::unix::fs::PermissionsExt as _;

use mesh_tests::netns::{Host, Network, ready};
use mesh_tests::{Failure, program};

/// The table of a family, without what changes from call to call.
fn saved(host: &Host, program: &str) -> Result<String, Failure> {
    let text = host.run(&[program, "-t", "nat"])?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

fn both(host: &Host) -> Result<[String; 2], Failure> {
    Ok([
        saved(host, "iptables-save")?,
        saved(host, "ip6tables-save")?,
    ])
}

fn redirect(host: &Host, words: &[&str]) -> Result<(Option<i32>, String, String), Failure> {
    let mut command = host.command(program("meshp")?)?;
    let output = command.arg("redirect").args(words).output()?;
    Ok((
        output.status.code(),
        String::from_utf8(output.stdout)?,
        String::from_utf8(output.stderr)?,
    ))
}

#[test]
fn what_is_applied_twice_is_there_once_and_leaves_nothing() -> Result<(), Failure> {
    if !ready(&["iptables-save"])? {
        return Ok(());
    }
    let network = Network::new()?;
    let host = &network.hosts[0];
    // Rules of others are none of our business.
    let foreign = [
        "-t", "nat", "-A", "OUTPUT", "-d", "10.9.9.9", "-j", "ACCEPT",
    ];
    for program in ["iptables", "ip6tables"] {
        let mut words = vec![program];
        words.extend(foreign);
        if program == "ip6tables" {
            words[6] = "fd00:9::9";
        }
        host.run(&words)?;
    }
    let before = both(host)?;
    let words = ["apply", "--proxy-uid", "1337"];
    let (code, said, _) = redirect(host, &words)?;
    assert_eq!(code, Some(0));
    assert_eq!(
        said,
        "IPv4 and IPv6 redirected: inbound to port 15006, outbound to port 15001\n"
    );
    let applied = both(host)?;
    for text in &applied {
        assert!(
            text.contains("-A MESH_OUTBOUND -p tcp -j REDIRECT --to-ports 15001"),
            "{text}"
        );
        assert_eq!(text.matches("-j MESH_INBOUND").count(), 2, "{text}");
        let (ours, theirs) = (
            text.find("-A OUTPUT -p tcp -j MESH_OUTBOUND"),
            text.find("-j ACCEPT"),
        );
        assert!(ours.is_some() && ours < theirs, "ours come first: {text}");
    }
    redirect(host, &words)?;
    assert_eq!(both(host)?, applied);
    let only_out = [
        "apply",
        "--proxy-gid",
        "7",
        "--direction",
        "outbound",
        "--family",
        "ipv4",
    ];
    assert_eq!(redirect(host, &only_out)?.0, Some(0));
    let changed = both(host)?;
    assert!(
        !changed[0].contains("15006") && changed[0].contains("--gid-owner 7"),
        "{changed:?}"
    );
    assert_eq!(changed[1], applied[1], "the other family is not touched");
    let (_, said, _) = redirect(host, &["remove"])?;
    assert_eq!(said, "IPv4 and IPv6 no longer redirected\n");
    assert_eq!(both(host)?, before);
    assert_eq!(redirect(host, &["remove"])?.1, "nothing was redirected\n");
    Ok(())
}

/// What `print` prints is what `apply` loads.
#[test]
fn what_is_printed_can_be_loaded_by_hand() -> Result<(), Failure> {
    if !ready(&["iptables-save", "sh"])? {
        return Ok(());
    }
    let network = Network::new()?;
    let (one, other) = (&network.hosts[0], &network.hosts[1]);
    let words = [
        "--proxy-uid",
        "1337",
        "--skip-outbound-cidr",
        "10.1.0.0/16",
        "--skip-uid",
        "0",
    ];
    let mut apply = vec!["apply"];
    apply.extend(words);
    assert_eq!(redirect(one, &apply)?.0, Some(0));
    for (family, restore) in [("ipv4", "iptables-restore"), ("ipv6", "ip6tables-restore")] {
        let mut print = vec!["print", "--family", family];
        print.extend(words);
        let (code, script, _) = redirect(one, &print)?;
        assert_eq!(code, Some(0));
        let load = format!("{restore} --noflush <<'END'\n{script}END\n");
        other.run(&["sh", "-c", &load])?;
    }
    assert_eq!(both(one)?, both(other)?);
    Ok(())
}

#[test]
fn without_the_right_to_it_nothing_is_changed_and_the_way_out_is_named() -> Result<(), Failure> {
    if !ready(&["iptables-save"])? {
        return Ok(());
    }
    let network = Network::new()?;
    let host = &network.hosts[0];
    let before = both(host)?;
    let folder = tempfile::tempdir()?;
    // The build may lie where others may not look.
    let meshp = std::path::Path::new("/proc/self/fd/0");
    let mut command = host.command_as_proxy(meshp)?;
    let file = std::fs::File::open(program("meshp")?)?;
    let output = command
        .args(["redirect", "apply", "--proxy-uid", "1337"])
        .current_dir(folder.path())
        .stdin(file)
        .output()?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("needs CAP_NET_ADMIN") && said.contains("redirect print"),
        "{said}"
    );
    assert_eq!(both(host)?, before);
    Ok(())
}

/// Half a redirection would let the other half slip past.
#[test]
fn where_one_family_fails_the_other_is_as_it_was() -> Result<(), Failure> {
    if !ready(&["iptables-save"])? {
        return Ok(());
    }
    let network = Network::new()?;
    let host = &network.hosts[0];
    let folder = tempfile::tempdir()?;
    let broken = folder.path().join("ip6tables-restore");
    std::fs::write(&broken, "#!/bin/sh\necho 'no such table' >&2\nexit 1\n")?;
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755))?;
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", folder.path().display());
    let fails = |port: &str| -> Result<(), Failure> {
        let mut command = host.command(program("meshp")?)?;
        command.args([
            "redirect",
            "apply",
            "--proxy-uid",
            "1",
            "--outbound-port",
            port,
        ]);
        let output = command.env("PATH", &path).output()?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("ip6tables-restore refuses: no such table"),
            "{said}"
        );
        Ok(())
    };
    let nothing = both(host)?;
    fails("15001")?;
    assert_eq!(both(host)?, nothing);
    assert_eq!(redirect(host, &["apply", "--proxy-uid", "1"])?.0, Some(0));
    let applied = both(host)?;
    fails("16001")?;
    assert_eq!(both(host)?, applied);
    Ok(())
}
