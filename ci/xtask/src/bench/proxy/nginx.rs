//! nginx with one process: it tries another time, and keeps its connections to the next hop.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use mesh_tests::{Failure, Running};

use super::hop::{Carries, Hop, Leg, prefix};
use super::machine::{MEASURED, find, on, wait_listening};

/// Where Debian puts what nginx can load.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Starts one; none if it is not there, or cannot do this.
pub(super) fn start(folder: &Path, hop: &Hop) -> Result<Option<Running>, Failure> {
    let Some(program) = find("nginx") else {
        return Ok(None);
    };
    let is_http1_alone = !matches!(hop.carries, Carries::Http1AsHttp2 | Carries::Http2AsHttp1);
    let has_stream = hop.carries != Carries::Bytes || Path::new(STREAM_MODULE).exists();
    if !is_http1_alone || !has_stream {
        return Ok(None);
    }
    let home = folder.join(format!("nginx-{}", hop.listen.port()));
    fs::create_dir(&home)?;
    let file = home.join("nginx.conf");
    fs::write(&file, config(&home, hop)?)?;
    let mut command = on(MEASURED, program);
    command.arg("-p").arg(&home).arg("-c").arg(&file);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = Running::start(&mut command)?;
    wait_listening(&mut process, hop.listen)?;
    Ok(Some(process))
}

fn config(home: &Path, hop: &Hop) -> Result<String, Failure> {
    let at = home.display();
    // Without a master its one worker is the process that is measured.
    let mut text = format!(
        "daemon off; master_process off; worker_processes 1; pid {at}/pid; error_log {at}/error.log crit;
events {{ worker_connections 8000; }}
"
    );
    if hop.carries == Carries::Bytes {
        text.insert_str(0, &format!("load_module {STREAM_MODULE};\n"));
        writeln!(
            text,
            "stream {{ server {{ listen {}; proxy_pass {}; }} }}",
            hop.listen, hop.next
        )?;
        return Ok(text);
    }
    let grpc = hop.carries == Carries::Grpc;
    let prefix_of = if grpc { "grpc" } else { "proxy" };
    let mut listen = hop.listen.to_string();
    let mut tls = String::new();
    if hop.downstream != Leg::Plain {
        listen.push_str(" ssl");
        write!(
            tls,
            "ssl_protocols TLSv1.3; ssl_certificate {}; ssl_certificate_key {};",
            hop.file("server.crt"),
            hop.file("server.key"),
        )?;
        if hop.downstream == Leg::Mutual {
            write!(
                tls,
                " ssl_verify_client on; ssl_client_certificate {};",
                hop.file("ca.pem")
            )?;
        }
    }
    if grpc {
        listen.push_str(" http2");
    }
    let scheme = match (grpc, hop.upstream) {
        (true, Leg::Plain) => "grpc",
        (true, _) => "grpcs",
        (false, Leg::Plain) => "http",
        (false, _) => "https",
    };
    let mut passes = format!("{prefix_of}_pass {scheme}://next;");
    if hop.upstream != Leg::Plain {
        write!(
            passes,
            " {prefix_of}_ssl_protocols TLSv1.3; {prefix_of}_ssl_certificate {}; {prefix_of}_ssl_certificate_key {}; \
             {prefix_of}_ssl_trusted_certificate {}; {prefix_of}_ssl_verify on; {prefix_of}_ssl_name server; \
             {prefix_of}_ssl_server_name on;",
            hop.file("client.crt"),
            hop.file("client.key"),
            hop.file("ca.pem"),
        )?;
    }
    let mut locations = String::new();
    for number in 0..hop.routes {
        writeln!(
            locations,
            "        location {}/ {{ {passes} }}",
            prefix(number)
        )?;
    }
    let keep = match prefix_of {
        "proxy" => {
            "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host; proxy_next_upstream_tries 2;
        proxy_next_upstream error http_503; proxy_request_buffering off; client_max_body_size 0;"
        }
        _ => "grpc_next_upstream_tries 2; client_max_body_size 0;",
    };
    writeln!(
        text,
        "http {{
    access_log off; keepalive_requests 1000000000;
    client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
    uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
    upstream next {{ server {}; keepalive 2000; keepalive_requests 1000000000; }}
    server {{
        listen {listen}; server_name server; {tls}
        {keep}
{locations}        location / {{ {passes} }}
    }}
}}",
        hop.next
    )?;
    Ok(text)
}
