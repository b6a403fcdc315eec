//! What is fuzzed: functions of bytes that strangers write, each with what must hold for every input. They panic when
//! it does not.
//!
//! `src/main.rs` feeds them mutations of a corpus, the same ones for the same seed, so that a run in CI needs neither a
//! special toolchain nor luck. The same functions are targets of cargo-fuzz in `libfuzzer/`.

pub mod http;
pub mod mutate;

use std::fs;
use std::path::{Path, PathBuf};

use mesh_bundle::slice::Slice;
use mesh_compiler::{DEFAULT_ENVIRONMENT, Input};
use mesh_engine::client_hello::{ClientHello, HelloReader};
use mesh_engine::preface::{self, Preface};
use mesh_engine::proxy_protocol::{self, Header, Progress};
use mesh_engine::{detect, host};
use mesh_syntax::{Diagnostic, FormatError, SourceSet, limits};

/// Something that is fuzzed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Panics if an input shows a fault.
    pub run: fn(&[u8]),
    /// Mutations tried in a short run.
    pub short: u64,
    /// What mutations begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Everything that is fuzzed.
pub static TARGETS: [Target; 10] = [
    Target {
        name: "parse",
        run: parse,
        short: 4_000,
        seeds: policies,
    },
    Target {
        name: "reading",
        run: reading,
        short: 3_000,
        seeds: policies,
    },
    Target {
        name: "format",
        run: format,
        short: 4_000,
        seeds: policies,
    },
    Target {
        name: "compile",
        run: compile,
        short: 1_500,
        seeds: policies,
    },
    Target {
        name: "slice",
        run: slice,
        short: 20_000,
        seeds: slices,
    },
    Target {
        name: "preface",
        run: preface,
        short: 200_000,
        seeds: prefaces,
    },
    Target {
        name: "first_bytes",
        run: first_bytes,
        short: 100_000,
        seeds: beginnings,
    },
    Target {
        name: "proxy_protocol",
        run: proxied,
        short: 100_000,
        seeds: proxy_headers,
    },
    Target {
        name: "http1",
        run: http::http1,
        short: 200_000,
        seeds: http::requests,
    },
    Target {
        name: "http2_frames",
        run: http::http2_frames,
        short: 100_000,
        seeds: http::framed,
    },
];

/// Findings of one file stay few, and all of them lie in it.
pub fn parse(data: &[u8]) {
    let sources = files(data);
    let (_, diagnostics) = mesh_syntax::parse(&sources);
    let most = (limits::FINDINGS_MAX + 1) * sources.files().len();
    assert!(diagnostics.len() <= most, "{} findings", diagnostics.len());
    assert_placed(&sources, &diagnostics);
}

/// What is read in one pass is what the `kdl` crate reads.
pub fn reading(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    assert_eq!(mesh_syntax::disagreement(&text), None);
}

/// What can be read is formatted, means what it meant, and formatting it again changes nothing.
pub fn format(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let once = mesh_syntax::format_text(&text);
    // That it means the same is looked at whenever something is formatted.
    assert!(!matches!(once, Err(FormatError::Fault)), "a fault");
    if let Ok(Some(formatted)) = once {
        let again = mesh_syntax::format_text(&formatted);
        assert!(matches!(again, Ok(None)), "{formatted:?} again: {again:?}");
    }
}

/// Whatever the policies, they are refused or compiled, and what is compiled is what a proxy takes.
pub fn compile(data: &[u8]) {
    let sources = files(data);
    let analysed = mesh_compiler::load(Input {
        sources: &sources,
        environment: DEFAULT_ENVIRONMENT,
        root_path: "",
    });
    assert_placed(&sources, &analysed.diagnostics);
    assert!(analysed.diagnostics.len() <= mesh_compiler::limits::FINDINGS_MAX);
    let Some(mesh) = &analysed.mesh else {
        return;
    };
    let lints = mesh_lint::lint(mesh);
    assert_placed(&sources, &lints);
    assert!(lints.len() <= mesh_compiler::limits::FINDINGS_MAX);
    let Ok(checked) = mesh_compiler::check(analysed, &lints) else {
        return;
    };
    for slice in mesh_compiler::emit(&checked).slices.values() {
        let features: Vec<&str> = slice.required_features.iter().map(String::as_str).collect();
        // Lists of a slice that mean the same in any order are in one order only once encoded.
        let bytes = slice.encode();
        let decoded = Slice::decode_with(&bytes, &features).map(|decoded| decoded.encode());
        assert_eq!(decoded.ok(), Some(bytes));
    }
}

/// There is one way to write a slice: what is decoded is encoded to the same bytes.
pub fn slice(data: &[u8]) {
    if let Ok(slice) = Slice::decode(data) {
        assert_eq!(slice.encode(), data);
    }
}

/// What a preface says is what would be written, but for hints.
pub fn preface(data: &[u8]) {
    let Some((length, fields)) = data.split_first_chunk() else {
        return;
    };
    let (Ok(length), Ok(read)) = (preface::length(*length), Preface::decode(fields)) else {
        return;
    };
    let written = read.encode().unwrap_or_default();
    if length == fields.len() && !fields.contains(&0x80) {
        let is_plain = written.len() == data.len();
        assert!(!is_plain || written == data, "{written:?}");
    }
    let again = written.split_first_chunk::<{ preface::LENGTH_BYTES }>();
    assert_eq!(
        again.map(|(_, fields)| Preface::decode(fields)),
        Some(Ok(read))
    );
}

/// What the first bytes of a connection say does not depend on the pieces in which they come, and no more of
/// them change it.
pub fn first_bytes(data: &[u8]) {
    let mut verdict = None;
    for end in 0..=data.len().min(200) {
        let now = data.get(..end).and_then(detect::detect);
        assert!(
            verdict.is_none() || now == verdict,
            "{end}: {verdict:?}, {now:?}"
        );
        verdict = now;
    }
    let at_once = HelloReader::default().read(data);
    let mut reader = HelloReader::default();
    let mut pieces = data.chunks(1).map(|piece| reader.read(piece));
    let in_pieces = pieces.find(|read| *read != Ok(None)).unwrap_or(Ok(None));
    assert_eq!(at_once, in_pieces);
    if let Ok(Some(ClientHello {
        server_name: Some(name),
        ..
    })) = at_once
    {
        assert_eq!(detect::detect(data), Some(detect::Detected::Tls));
        assert!(host::normalise(&name).is_ok_and(|host| host.host() == name));
    }
}

/// A header is read to its end and no further, however it comes, and what it needs is bounded.
pub fn proxied(data: &[u8]) {
    let mut taken = 0;
    loop {
        let Some(read) = data.get(..taken) else {
            return;
        };
        match proxy_protocol::parse(read) {
            Ok(Progress::Needs(more)) => {
                assert!(more > 0, "it never ends");
                // It may not ask for what could be the client's: whatever is short of that is not whole.
                let almost = data.get(..taken + more - 1).map(proxy_protocol::parse);
                assert!(!matches!(almost, Some(Ok(Progress::Done(_)))), "at {taken}");
                taken += more;
                assert!(taken <= proxy_protocol::FIELDS_BYTES_MAX + 16, "{taken}");
            }
            Ok(Progress::Done(header)) => {
                let is_one =
                    |client: std::net::SocketAddr| client.to_string().parse() == Ok(client);
                assert!(match header {
                    Header::Proxied { client } => is_one(client),
                    Header::Itself => true,
                });
                return;
            }
            Err(_) => return,
        }
    }
}

/// The files of an input: a line `//// PATH` begins one. Where none has a `mesh` node there is a small one beside them.
fn files(data: &[u8]) -> SourceSet {
    let mut sources = SourceSet::new();
    let mut rest = data;
    let mut path = "a.kdl".to_owned();
    let mut text = Vec::new();
    while !rest.is_empty() {
        let end = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(rest.len(), |newline| newline + 1);
        let (line, after) = rest.split_at(end);
        rest = after;
        match line.strip_prefix(b"//// ") {
            Some(name) => {
                let next = String::from_utf8_lossy(name).trim().to_owned();
                sources.add(
                    std::mem::replace(&mut path, next),
                    std::mem::take(&mut text),
                );
            }
            None => text.extend_from_slice(line),
        }
    }
    sources.add(path, text);
    if !data.windows(5).any(|window| window == b"mesh ") {
        sources.add("mesh.kdl", MESH.as_bytes().to_vec());
    }
    sources
}

const MESH: &str = "mesh m { trust-domain \"m.example\" }\n";

fn assert_placed(sources: &SourceSet, diagnostics: &[Diagnostic]) {
    for found in diagnostics {
        let labels = found.labels.iter().map(|label| label.span);
        let edits = found.fixes.iter().flat_map(|fix| &fix.edits);
        let spans = labels
            .chain(edits.map(|edit| edit.span))
            .chain([found.span]);
        for span in spans {
            let is_file = sources.text(span.file).is_some();
            assert!(
                !is_file || sources.slice(span).is_some(),
                "not in its file: {found:?}"
            );
        }
    }
}

/// The top of the workspace.
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// The committed corpus, the examples of every page, which have every word of the language, and the bookshop.
pub fn policies() -> Vec<Vec<u8>> {
    let root = workspace_root();
    let mut seeds = committed(&root.join("tests/fuzz/corpus"));
    for page in mesh_lint::pages() {
        let text = page.text();
        let mut parts = text.split("```");
        while let (Some(_), Some(block)) = (parts.next(), parts.next()) {
            if let Some((kind, text)) = block.split_once('\n')
                && kind.trim().starts_with("kdl")
            {
                seeds.push(text.as_bytes().to_vec());
            }
        }
    }
    let mut bookshop = Vec::new();
    for file in below(&root.join("policies/examples/bookshop")) {
        let Ok(text) = fs::read(&file) else { continue };
        let path = file.strip_prefix(&root).unwrap_or(&file);
        bookshop.extend_from_slice(format!("//// {}\n", path.display()).as_bytes());
        bookshop.extend_from_slice(&text);
        seeds.push(text);
    }
    seeds.push(bookshop);
    seeds
}

/// The slices of whatever in the corpus compiles.
pub fn slices() -> Vec<Vec<u8>> {
    let compiled = policies().into_iter().flat_map(|seed| {
        let sources = files(&seed);
        let analysed = mesh_compiler::load(Input {
            sources: &sources,
            environment: DEFAULT_ENVIRONMENT,
            root_path: "",
        });
        let slices = mesh_compiler::check(analysed, &[]).map(|checked| {
            let emitted = mesh_compiler::emit(&checked);
            emitted
                .slices
                .values()
                .map(Slice::encode)
                .collect::<Vec<_>>()
        });
        slices.unwrap_or_default()
    });
    compiled.collect()
}

/// Prefaces, with hints and without.
pub fn prefaces() -> Vec<Vec<u8>> {
    let ports = [1, 80, 443, 5432, 9080, u16::MAX];
    let names = [
        "a",
        "db",
        "orders.shop",
        "a-long-name.of-a-service.in.some-namespace",
    ];
    let whole = |(name, port): (&str, u16)| {
        let preface = Preface {
            service: name.into(),
            port,
            trace: (port == 80)
                .then(|| "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        };
        preface.encode().unwrap_or_default()
    };
    let all = ports
        .into_iter()
        .flat_map(|port| names.map(|name| (name, port)));
    let mut seeds: Vec<Vec<u8>> = all.map(whole).collect();
    let hinted = seeds.iter().map(|seed| {
        let mut seed = seed.clone();
        seed.extend_from_slice(&[0x90, 2, 1, 1]);
        if let Some(low) = seed.get_mut(1) {
            *low += 4;
        }
        seed
    });
    let hinted: Vec<_> = hinted.collect();
    seeds.extend(hinted);
    seeds
}

/// Headers of both versions of the PROXY protocol, and what a client says after them.
pub fn proxy_headers() -> Vec<Vec<u8>> {
    let lines = [
        "PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n",
        "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        "PROXY TCP6 2001:db8::1 ::1 56324 443\r\n",
        "PROXY TCP6 ffff:f::ffff ffff:f::ffff 65535 65535\r\n",
        "PROXY UNKNOWN\r\n",
        "PROXY UNKNOWN ffff:f::ffff 1 65535\r\n",
    ];
    let binary = |command: u8, protocol: u8, fields: &[u8]| {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        header.extend_from_slice(&[command, protocol, 0]);
        header.extend(u8::try_from(fields.len()));
        header.extend_from_slice(fields);
        header
    };
    let fields = [0, 1, 12, 36, 50].map(|length| vec![7; length]);
    let kinds = [
        (0x21, 0x11),
        (0x21, 0x21),
        (0x20, 0),
        (0x21, 0),
        (0x21, 0x12),
    ];
    let mut seeds: Vec<Vec<u8>> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
    for (command, protocol) in kinds {
        seeds.extend(
            fields
                .iter()
                .map(|fields| binary(command, protocol, fields)),
        );
    }
    for seed in &mut seeds {
        seed.extend_from_slice(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    seeds
}

/// How connections begin.
pub fn beginnings() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"POST /a?b HTTP/1.0\n",
        detect::HTTP2_PREFACE,
        b"EHLO mail.example\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    for (name, record) in [
        ("a", 1),
        ("shop.example", 5),
        ("shop.example", 16_384),
        ("", 100),
    ] {
        for filler in [0, 3, 40, 300] {
            seeds.push(hello(name, filler, record));
        }
    }
    seeds
}

/// A `ClientHello` with a name and so many bytes of another extension, in records of that length.
fn hello(name: &str, filler: usize, record: usize) -> Vec<u8> {
    let sized = |content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
        [&length.to_be_bytes(), content].concat()
    };
    let entry = [&[0], &*sized(name.as_bytes())].concat();
    let server_name = [&[0, 0], &*sized(&sized(&entry))].concat();
    let other = [&[0, 16], &*sized(&vec![0; filler])].concat();
    let extensions = sized(&[server_name, other].concat());
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0, 0, 2, 0x13, 1, 1, 0],
        &extensions,
    ]
    .concat();
    let [_, length @ ..] = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    let message = [&[1], &length[..], &body].concat();
    let records = message.chunks(record);
    records
        .flat_map(|chunk| [&[22, 3, 1], &*sized(chunk)].concat())
        .collect()
}

fn committed(folder: &Path) -> Vec<Vec<u8>> {
    below(folder)
        .into_iter()
        .filter_map(|file| fs::read(file).ok())
        .collect()
}

/// Every policy file below a folder, in the order of their paths.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "kdl") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use mesh_syntax::FileId;

    use super::*;

    #[test]
    fn the_corpus_shows_no_fault() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(
                seeds.len() > 20,
                "{} has {} seeds",
                target.name,
                seeds.len()
            );
            for seed in seeds {
                (target.run)(&seed);
            }
        }
    }

    /// Compiled bytes for each workload; nothing where there is an error.
    fn compiled(sources: &SourceSet) -> Option<Vec<Vec<u8>>> {
        let analysed = mesh_compiler::load(Input {
            sources,
            environment: DEFAULT_ENVIRONMENT,
            root_path: "",
        });
        let checked = mesh_compiler::check(analysed, &[]).ok()?;
        let slices = mesh_compiler::emit(&checked).slices;
        Some(slices.values().map(Slice::encode).collect())
    }

    fn every_file(sources: &SourceSet, edit: impl Fn(FileId) -> String) -> SourceSet {
        let mut edited = SourceSet::new();
        for file in sources.files() {
            edited.add(sources.path(file), edit(file).into_bytes());
        }
        edited
    }

    #[test]
    fn formatting_changes_no_byte_of_what_is_compiled() {
        let root = workspace_root();
        let mut seeds = policies();
        for folder in [
            "policies/examples/bookshop",
            "compiler/cli/src/commands/init",
        ] {
            let mut whole = Vec::new();
            let folder = root.join(folder);
            for file in below(&folder) {
                let path = file.strip_prefix(&folder).unwrap();
                whole.extend(format!("//// {}\n", path.display()).into_bytes());
                whole.extend(fs::read(&file).unwrap());
            }
            seeds.push(whole);
        }
        let mut same = 0;
        for seed in seeds {
            let sources = files(&seed);
            let Some(before) = compiled(&sources) else {
                continue;
            };
            let text = |file| sources.text(file).unwrap_or_default();
            let untidy = every_file(&sources, |file| {
                let lines = text(file)
                    .lines()
                    .map(|line| format!("  {}\r\n", line.trim()));
                lines.collect()
            });
            for sources in [&sources, &untidy] {
                let formatted = every_file(sources, |file| {
                    let formatted = mesh_syntax::format(sources, file);
                    let text = sources.text(file).unwrap_or_default().to_owned();
                    formatted.unwrap().unwrap_or(text)
                });
                assert_eq!(compiled(&formatted).as_ref(), Some(&before));
            }
            same += 1;
        }
        assert!(same > 50, "only {same} of the seeds are without mistakes");
    }

    #[test]
    fn an_input_holds_several_files() {
        let sources = files(b"a 1\n//// b/c.kdl\nmesh m {}\n");
        let paths: Vec<&str> = sources.files().map(|file| sources.path(file)).collect();
        assert_eq!(paths, ["a.kdl", "b/c.kdl"]);
        assert_eq!(files(b"a 1").files().len(), 2);
    }
}
