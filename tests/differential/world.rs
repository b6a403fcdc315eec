//! All cases at once: one mesh whose callees have their policies, one Envoy with as many hosts, the same endpoints.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use mesh_bundle::slice::Slice;
use mesh_compiler::{DEFAULT_ENVIRONMENT, Input};
use mesh_syntax::{Level, SourceSet, Span};
use mesh_tests::loopback::{LIMIT, Proxy, Wide, free};
use mesh_tests::netns::find;
use mesh_tests::{Failure, Running, wait_until};

use crate::backend::{Backend, Recorder};
use crate::case::Case;
use crate::say;
use crate::side::Side;
use crate::translate::{self, Entry};

/// Both, running.
pub(crate) struct World {
    backends: Vec<(&'static str, Vec<Backend>)>,
    recorder: Recorder,
    entries: Vec<Place>,
    _envoy: Running,
    /// To end before their distributor does.
    _proxies: Vec<Proxy>,
    _wide: Wide,
    _folder: tempfile::TempDir,
}

/// Where a workload or gateway is entered.
struct Place {
    identity: String,
    ours: SocketAddr,
    theirs: SocketAddr,
}

const CALLER: &str = "service/web";

impl World {
    /// None where Envoy is not there and need not be.
    pub(crate) fn start(cases: &[&'static Case]) -> Result<Option<Self>, Failure> {
        let Some(envoy) = find("envoy") else {
            if std::env::var_os("MESH_CI_TOOLS").is_some_and(|wanted| wanted == "required") {
                return Err(Failure::new("envoy is not there; `.ci/run` installs it"));
            }
            say("SKIPPED the comparison with Envoy: it is not there; `.ci/run` installs it");
            return Ok(None);
        };
        let recorder = Recorder::default();
        let mut backends = Vec::new();
        for case in cases {
            let mut own = Vec::new();
            for (group, nature) in case.endpoints {
                own.push(Backend::start(group, own.len(), *nature, &recorder)?);
            }
            backends.push((case.name, own));
        }
        let policy = policy(cases, &backends)?;
        let slices = compile(&policy)?;
        let wide = Wide::start(&policy)?;

        let mut entries = Vec::new();
        let mut proxies = Vec::new();
        let web = wide.proxy("web", free()?, free()?)?;
        entries.push(Place {
            identity: CALLER.to_owned(),
            ours: web.outbound,
            theirs: free()?,
        });
        proxies.push(web);
        for case in cases.iter().filter(|case| !case.gateway.is_empty()) {
            let name = gateway(case);
            let ours = free()?;
            proxies.push(wide.gateway(&name, ours)?);
            entries.push(Place {
                identity: format!("gateway/{name}"),
                ours,
                theirs: free()?,
            });
        }
        let mut translated = Vec::new();
        for place in &entries {
            let slice = slices
                .iter()
                .find(|slice| slice.identity.to_string().ends_with(&place.identity));
            let slice = slice.ok_or_else(|| Failure::new(place.identity.clone()))?;
            let entry = if place.identity == CALLER {
                Entry::Outbound(slice)
            } else {
                Entry::Gateway(slice)
            };
            translated.push((entry, place.theirs));
        }
        let bootstrap = translate::bootstrap(&translated)?;
        let folder = tempfile::Builder::new().prefix("mesh-envoy-").tempdir()?;
        let file = folder.path().join("envoy.json");
        fs::write(&file, serde_json::to_vec_pretty(&bootstrap)?)?;
        let log = folder.path().join("envoy.log");
        let errors = fs::File::create(&log)?;
        let mut command = Command::new(envoy);
        // One worker has one pool, as each of our proxies has.
        command
            .args(["--concurrency", "1", "--disable-hot-restart"])
            .args(["--log-level", "warning", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors);
        let mut envoy = Running::start(&mut command)?;
        for place in &entries {
            wait_until("Envoy listens", LIMIT, || {
                if let Some(status) = envoy.ended()? {
                    let log = fs::read_to_string(&log)?;
                    return Ok(Err(Failure::new(format!("it ended with {status}: {log}"))));
                }
                TcpStream::connect(place.theirs)?;
                Ok(Ok(()))
            })??;
        }
        Ok(Some(Self {
            backends,
            recorder,
            entries,
            _envoy: envoy,
            _proxies: proxies,
            _wide: wide,
            _folder: folder,
        }))
    }

    /// Ours, then theirs.
    pub(crate) fn sides(&self, case: &Case) -> Result<[Side<'_>; 2], Failure> {
        let identity = if case.gateway.is_empty() {
            CALLER.to_owned()
        } else {
            format!("gateway/{}", gateway(case))
        };
        let mut places = self.entries.iter();
        let place = places.find(|place| place.identity == identity);
        let place = place.ok_or_else(|| Failure::new(identity))?;
        let mut backends = self.backends.iter();
        let own = backends.find(|(name, _)| *name == case.name);
        let (_, own) = own.ok_or_else(|| Failure::new(case.name))?;
        let side = |name, entry| Side::new(name, case.name, entry, own, &self.recorder);
        Ok([side("meshp", place.ours), side("envoy", place.theirs)])
    }
}

fn gateway(case: &Case) -> String {
    format!("{}-gate", case.name)
}

/// The policy of all cases.
fn policy(
    cases: &[&'static Case],
    backends: &[(&'static str, Vec<Backend>)],
) -> Result<String, Failure> {
    let mut text = String::from(
        "mesh drills {
    trust-domain \"drills.example\"
    refuse amplification=1000 attempts=10
}
service web {
    port 8080
    endpoints { static \"127.0.0.1:1\" }
",
    );
    for case in cases.iter().filter(|case| case.gateway.is_empty()) {
        writeln!(text, "    calls {}", case.name)?;
    }
    text.push_str("}\n");
    for (case, (_, own)) in cases.iter().zip(backends) {
        writeln!(
            text,
            "service {} {{\n    port 8080\n    unmeshed",
            case.name
        )?;
        text.push_str("    endpoints {\n");
        for backend in own {
            writeln!(
                text,
                "        static \"{}\" version={}",
                backend.address, backend.group
            )?;
        }
        writeln!(text, "    }}\n{}\n}}", case.policy)?;
        if !case.gateway.is_empty() {
            writeln!(
                text,
                "gateway {} {{\n    listen 8080 protocol=http\n{}\n}}",
                gateway(case),
                case.gateway
            )?;
        }
    }
    Ok(text)
}

/// The slices of all workloads.
fn compile(policy: &str) -> Result<Vec<Slice>, Failure> {
    let mut sources = SourceSet::new();
    sources.add("mesh.kdl", policy.as_bytes().to_vec());
    let analysed = mesh_compiler::load(Input {
        sources: &sources,
        environment: DEFAULT_ENVIRONMENT,
        root_path: "",
    });
    let checked = mesh_compiler::check(analysed, &[]).map_err(|refused| {
        let findings = refused.diagnostics.iter();
        let of = |span: Span| policy.get(span.range()).unwrap_or_default();
        let findings: Vec<_> = findings
            .filter(|finding| finding.level == Level::Error)
            .map(|finding| format!("{}: {}", finding.message, of(finding.span)))
            .collect();
        Failure::new(format!("the policy is refused: {}", findings.join("\n")))
    })?;
    Ok(mesh_compiler::emit(&checked).slices.into_values().collect())
}
