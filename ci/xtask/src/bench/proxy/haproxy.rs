//! HAProxy with one thread: it retries, denies by one rule, and keeps and shares its connections to the next hop.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use mesh_tests::{Failure, Running};

use super::hop::{Carries, Hop, Leg, prefix};
use super::machine::{MEASURED, find, on, wait_listening};

/// Starts one; none if it is not there.
pub(super) fn start(folder: &Path, hop: &Hop) -> Result<Option<Running>, Failure> {
    let Some(program) = find("haproxy") else {
        return Ok(None);
    };
    let file = folder.join(format!("haproxy-{}.cfg", hop.listen.port()));
    fs::write(&file, config(folder, hop)?)?;
    let log = fs::File::create(file.with_extension("log"))?;
    let mut command = on(MEASURED, program);
    // In the foreground, without a master.
    command.args(["-db", "-f"]).arg(&file);
    command.stdout(Stdio::null()).stderr(log);
    let mut process = Running::start(&mut command)?;
    wait_listening(&mut process, hop.listen)?;
    Ok(Some(process))
}

fn config(folder: &Path, hop: &Hop) -> Result<String, Failure> {
    let bytes = hop.carries == Carries::Bytes;
    let mode = if bytes { "tcp" } else { "http" };
    let http2_in = matches!(hop.carries, Carries::Grpc | Carries::Http2AsHttp1);
    let http2_out = matches!(hop.carries, Carries::Grpc | Carries::Http1AsHttp2);
    let mut bind = format!("bind {}", hop.listen);
    let mut server = format!("server next {}", hop.next);
    if hop.downstream != Leg::Plain {
        let alpn = if http2_in { "h2" } else { "http/1.1" };
        write!(
            bind,
            " ssl crt {} ssl-min-ver TLSv1.3 alpn {alpn}",
            hop.file("server.pem")
        )?;
        if hop.downstream == Leg::Mutual {
            write!(bind, " ca-file {} verify required", hop.file("ca.pem"))?;
        }
    } else if http2_in {
        bind.push_str(" proto h2");
    }
    if hop.upstream != Leg::Plain {
        let alpn = if http2_out { "h2" } else { "http/1.1" };
        write!(
            server,
            " ssl crt {} ca-file {} verify required verifyhost server sni str(server) ssl-min-ver TLSv1.3 alpn {alpn}",
            hop.file("client.pem"),
            hop.file("ca.pem"),
        )?;
    } else if http2_out {
        server.push_str(" proto h2");
    }
    let mut text = format!(
        "global
    nbthread 1
    maxconn 4000
defaults
    mode {mode}
    timeout connect 1s
    timeout client 60s
    timeout server 15s
    retries 1
"
    );
    if !bytes {
        text.push_str("    http-reuse always\n    retry-on conn-failure empty-response 503\n");
    }
    writeln!(text, "frontend in\n    {bind}")?;
    if !bytes {
        text.push_str("    http-request deny unless { path_beg / }\n");
    }
    if hop.routes > 0 && !bytes {
        // A map of prefixes is how it is told to have many.
        let map = folder.join(format!("haproxy-{}.map", hop.listen.port()));
        let lines = (0..hop.routes).map(|number| format!("{}/ next\n", prefix(number)));
        fs::write(&map, lines.collect::<String>())?;
        writeln!(
            text,
            "    use_backend %[path,map_beg({},next)]",
            map.display()
        )?;
    } else {
        text.push_str("    default_backend next\n");
    }
    writeln!(text, "backend next\n    {server}")?;
    Ok(text)
}
