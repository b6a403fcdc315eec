//! `meshc lsp`: the protocol, over the pipes of the real program. What the answers say is tested in `mesh-editor`.

use std::fs;

use serde_json::{Value, json};

use crate::support::Fixture;

mod client;

use client::{Client, position, uri};

const MESH: &str = "mesh shop {
    trust-domain \"shop.example\"
    environment staging
    defaults { timeout \"5s\" }
}
";
const CART: &str = "service cart {
    port 80
    endpoints { static \"10.0.0.1:80\" }
    subset v1 { labels version=v1 }
    allow page
}
";
const PAGE: &str = "service page {
    port 80
    endpoints { static \"10.0.0.2:80\" }
    calls cart
}
";

fn shop() -> Fixture {
    let fixture = Fixture::empty();
    fixture.write("p/mesh.kdl", MESH);
    fixture.write("p/cart.kdl", CART);
    fixture.write("p/page.kdl", PAGE);
    fixture.write(
        "p/environments/staging/mesh.kdl",
        "override mesh shop { trust-domain \"staging.example\" }\n",
    );
    fixture
}

/// The codes of errors.
fn codes(diagnostics: &[Value]) -> Vec<&str> {
    let errors = diagnostics.iter().filter(|one| one["severity"] == 1);
    errors.filter_map(|one| one["code"].as_str()).collect()
}

/// Where a question is asked.
fn at(uri: &str, text: &str, part: &str, after: usize) -> Value {
    json!({ "textDocument": { "uri": uri }, "position": position(text, part, after) })
}

#[test]
fn findings_come_as_one_types_and_go_when_they_are_mended() {
    let fixture = shop();
    let mut client = Client::open(&fixture, "p", &json!({}));
    let (cart, page) = (uri(&fixture, "p/cart.kdl"), uri(&fixture, "p/page.kdl"));
    client.did_open(&cart, CART);
    assert_eq!(
        codes(&client.diagnostics(&cart, Some(1))),
        Vec::<&str>::new()
    );

    // The buffer counts, and what it breaks elsewhere is shown there.
    let renamed = CART.replace("service cart", "service basket");
    client.did_change(&cart, 2, &renamed);
    client.diagnostics(&cart, Some(2));
    let broken = client.diagnostics(&page, None);
    assert_eq!(codes(&broken), ["MSH0101"]);
    assert_eq!(broken[0]["source"], "meshc");
    assert_eq!(broken[0]["severity"], 1);
    assert_eq!(broken[0]["range"]["start"], position(PAGE, "cart", 0));

    // One letter after the other, from the last to the first.
    let name = position(&renamed, "basket", 0);
    let line = name["line"].as_u64();
    let from = name["character"].as_u64().unwrap_or_default();
    client.edit(
        &cart,
        3,
        &json!([
            { "range": { "start": { "line": line, "character": from + 4 }, "end": { "line": line, "character": from + 6 } }, "text": "" },
            { "range": { "start": { "line": line, "character": from }, "end": { "line": line, "character": from + 4 } }, "text": "cart" },
        ]),
    );
    assert!(codes(&client.diagnostics(&cart, Some(3))).is_empty());
    assert!(client.diagnostics(&page, None).is_empty());

    // Closed without being saved: the disk counts.
    client.did_change(&cart, 4, "service cart {");
    assert!(codes(&client.diagnostics(&cart, Some(4))).contains(&"MSH0001"));
    client.notify(
        "textDocument/didClose",
        &json!({ "textDocument": { "uri": cart } }),
    );
    assert!(codes(&client.diagnostics(&cart, None)).is_empty());
}

#[test]
fn every_environment_and_every_test_file_is_checked() {
    let fixture = shop();
    fixture.write(
        "p/environments/staging/cart.kdl",
        "override service cart { timeout \"5x\" }\n",
    );
    fixture.write(
        "p/cart.test.kdl",
        "test \"t\" { request GET \"/\" from=page to=nobody; expect allowed }\n",
    );
    let mut client = Client::open(&fixture, "p", &json!({}));
    let staging = client.diagnostics(&uri(&fixture, "p/environments/staging/cart.kdl"), None);
    assert_eq!(codes(&staging), ["MSH0003"]);
    let message = staging[0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("only in staging"), "{message}");
    let test = client.diagnostics(&uri(&fixture, "p/cart.test.kdl"), None);
    assert_eq!(codes(&test), ["MSH0101"]);
}

#[test]
fn positions_are_counted_as_the_client_does() {
    let fixture = shop();
    let text = format!("{MESH}/* 𝄞ß */ policy two {{ tiemout \"1s\" }}\n");
    fixture.write("p/mesh.kdl", &text);
    let mesh = uri(&fixture, "p/mesh.kdl");
    for (encodings, column) in [(json!(["utf-16"]), 23), (json!(["utf-16", "utf-8"]), 26)] {
        let general = json!({ "general": { "positionEncodings": encodings } });
        let mut client = Client::open(&fixture, "p", &general);
        let found = client.diagnostics(&mesh, None);
        assert_eq!(codes(&found), ["MSH0002"], "{found:?}");
        let start = &found[0]["range"]["start"];
        assert_eq!(
            *start,
            json!({ "line": 5, "character": column }),
            "{encodings}"
        );
    }
}

#[test]
fn questions_are_answered() {
    let fixture = shop();
    let edits = json!({
        "workspace": { "workspaceEdit": { "documentChanges": true } },
        "textDocument": { "hover": { "contentFormat": ["markdown", "plaintext"] } },
    });
    let mut client = Client::open(&fixture, "p", &edits);
    let (cart, page) = (uri(&fixture, "p/cart.kdl"), uri(&fixture, "p/page.kdl"));
    client.did_open(&page, PAGE);
    client.diagnostics(&page, Some(1));
    let name = at(&page, PAGE, "calls cart", 7);
    let mut ask = |method: &str, params: &Value| client.request(method, params);

    let hover = ask("textDocument/hover", &name).unwrap();
    let text = hover["contents"]["value"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(
        text.contains("**service `cart`**") && text.contains("| timeout | `5s` | p/mesh.kdl:4 |")
            || text.contains("| timeout | `5s` | mesh.kdl:4 |"),
        "{text}"
    );

    let definition = ask("textDocument/definition", &name).unwrap();
    assert_eq!(definition[0]["uri"], cart);
    assert_eq!(definition[0]["range"]["start"], position(CART, "cart", 0));

    let mut asked = name.clone();
    asked["context"] = json!({ "includeDeclaration": true });
    let references = ask("textDocument/references", &asked).unwrap();
    assert_eq!(references.as_array().map(Vec::len), Some(2));

    asked["newName"] = json!("basket");
    let renamed = ask("textDocument/rename", &asked).unwrap();
    let changes = renamed["documentChanges"].as_array().unwrap();
    let documents: Vec<(&Value, &Value)> = changes
        .iter()
        .map(|change| {
            (
                &change["textDocument"]["uri"],
                &change["textDocument"]["version"],
            )
        })
        .collect();
    assert_eq!(
        documents,
        [(&json!(cart), &Value::Null), (&json!(page), &json!(1))]
    );
    asked["newName"] = json!("Not A Name");
    let (code, message) = ask("textDocument/rename", &asked).unwrap_err();
    assert_eq!(code, -32803);
    assert!(
        message.starts_with("`Not A Name` is not a name"),
        "{message}"
    );
    let prepared = ask("textDocument/prepareRename", &name).unwrap();
    assert_eq!(prepared["placeholder"], "cart");

    let completion = ask("textDocument/completion", &at(&page, PAGE, "calls cart", 6)).unwrap();
    let labels: Vec<&Value> = completion
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["label"])
        .collect();
    assert!(labels.contains(&&json!("cart")), "{labels:?}");

    let document = json!({ "textDocument": { "uri": page } });
    let symbols = ask("textDocument/documentSymbol", &document).unwrap();
    assert_eq!(symbols[0]["name"], "page");
    let found = ask("workspace/symbol", &json!({ "query": "car" })).unwrap();
    assert_eq!(found[0]["location"]["uri"], cart);
    let folds = ask("textDocument/foldingRange", &document).unwrap();
    assert_eq!(folds[0]["endLine"], 4);
    let mut format = document.clone();
    format["options"] = json!({ "tabSize": 4, "insertSpaces": true });
    let formatted = ask("textDocument/formatting", &format).unwrap();
    assert_eq!(formatted, json!([]));
    let highlights = ask("textDocument/documentHighlight", &name).unwrap();
    assert_eq!(highlights.as_array().map(Vec::len), Some(1));
}

#[test]
fn fixes_are_actions_and_safe_ones_come_together() {
    let fixture = shop();
    let mut client = Client::open(&fixture, "p", &json!({}));
    let page = uri(&fixture, "p/page.kdl");
    let text = PAGE.replace(
        "calls cart",
        "tiemout \"1s\"\n    retry rest attempts=2\n    calls cart",
    );
    client.did_open(&page, &text);
    let found = client.diagnostics(&page, Some(1));
    assert_eq!(codes(&found)[0], "MSH0002", "{found:?}");
    let hover = client.request("textDocument/hover", &at(&page, &text, "tiemout", 2));
    let hover = hover.unwrap()["contents"]["value"]
        .as_str()
        .unwrap()
        .to_owned();
    // This client shows no Markdown.
    assert!(
        hover.starts_with("MSH0002: ") && !hover.contains('`'),
        "{hover}"
    );
    let all =
        json!({ "start": { "line": 0, "character": 0 }, "end": { "line": 99, "character": 0 } });
    let mut params =
        json!({ "textDocument": { "uri": page }, "range": all, "context": { "diagnostics": [] } });
    let actions = client.request("textDocument/codeAction", &params).unwrap();
    let fix = &actions[0];
    assert_eq!(fix["title"], "write `timeout`");
    assert_eq!(fix["kind"], "quickfix");
    assert_eq!(fix["edit"]["changes"][&page][0]["newText"], "timeout");
    params["context"] = json!({ "diagnostics": [], "only": ["source.fixAll"] });
    let actions = client.request("textDocument/codeAction", &params).unwrap();
    assert_eq!(actions.as_array().map(Vec::len), Some(1), "{actions}");
    let edits = actions[0]["edit"]["changes"][&page]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(edits.len(), 2, "{edits:?}");
    // What was written meanwhile is not what was checked.
    client.did_change(&page, 2, &format!("\n{text}"));
    let actions = client.request("textDocument/codeAction", &params).unwrap();
    let stale = actions.as_array().unwrap();
    let line =
        |action: &Value| action["edit"]["changes"][&page][0]["range"]["start"]["line"].clone();
    assert!(
        stale.iter().all(|action| line(action) == json!(5)),
        "{stale:?}"
    );
}

#[test]
fn formatting_changes_the_lines_that_differ() {
    let fixture = shop();
    let mut client = Client::open(&fixture, "p", &json!({}));
    let page = uri(&fixture, "p/page.kdl");
    client.did_open(&page, &PAGE.replace("    calls", "  calls"));
    let options = json!({ "tabSize": 4, "insertSpaces": true });
    let params = json!({ "textDocument": { "uri": page }, "options": options });
    let edits = client.request("textDocument/formatting", &params).unwrap();
    let range =
        json!({ "start": { "line": 3, "character": 0 }, "end": { "line": 4, "character": 0 } });
    assert_eq!(
        edits,
        json!([{ "range": range, "newText": "    calls cart\n" }])
    );
    // What has mistakes is left alone.
    client.did_change(&page, 2, "service page {\n calls cart\n");
    let edits = client.request("textDocument/formatting", &params).unwrap();
    assert_eq!(edits, json!([]));
}

#[test]
fn the_standard_library_opens_as_a_file() {
    let fixture = shop();
    let mut client = Client::open(&fixture, "p", &json!({}));
    let page = uri(&fixture, "p/page.kdl");
    let text = PAGE.replace("calls cart", "use std.retries\n    calls cart");
    client.did_open(&page, &text);
    let asked = at(&page, &text, "std.retries", 6);
    let found = client.request("textDocument/definition", &asked).unwrap();
    let opened = found[0]["uri"].as_str().unwrap().to_owned();
    let path = opened.strip_prefix("file://").unwrap();
    let library = fs::read_to_string(path).unwrap();
    assert!(library.contains("policy retries {"));
    let (code, message) = client
        .request("textDocument/prepareRename", &asked)
        .unwrap_err();
    assert_eq!(
        (code, message.as_str()),
        (-32803, "`std.retries` is of the standard library")
    );
    // It can be asked about too, and belongs to no root.
    client.did_open(&opened, &library);
    let hover = client.request(
        "textDocument/hover",
        &at(&opened, &library, "policy retries", 2),
    );
    assert!(
        hover.unwrap()["contents"]["value"]
            .as_str()
            .unwrap()
            .contains("Settings with a name")
    );
}

#[test]
fn what_happens_on_the_disk_is_seen() {
    let fixture = shop();
    let mut client = Client::open(&fixture, "p", &json!({}));
    let (page, other) = (uri(&fixture, "p/page.kdl"), uri(&fixture, "p/other.kdl"));
    client.did_open(&page, PAGE);
    assert!(client.diagnostics(&page, Some(1)).is_empty());
    // The client says nothing: it is found by looking.
    fixture.write("p/other.kdl", "service other { port 80; calls nobody }\n");
    assert_eq!(codes(&client.diagnostics(&other, None)), ["MSH0101"]);
    fs::remove_file(fixture.path("p/other.kdl")).unwrap();
    assert!(client.diagnostics(&other, None).is_empty());
    // It says so.
    fixture.write("p/other.kdl", "service other {\n");
    let changes = json!({ "changes": [{ "uri": other, "type": 1 }] });
    client.notify("workspace/didChangeWatchedFiles", &changes);
    assert!(codes(&client.diagnostics(&other, None)).contains(&"MSH0001"));
    fs::rename(fixture.path("p/other.kdl"), fixture.path("p/renamed.kdl")).unwrap();
    client.notify("workspace/didChangeWatchedFiles", &changes);
    assert!(client.diagnostics(&other, None).is_empty());
    let renamed = client.diagnostics(&uri(&fixture, "p/renamed.kdl"), None);
    assert!(codes(&renamed).contains(&"MSH0001"));
}

#[test]
fn several_roots_and_none() {
    let fixture = shop();
    fixture.write("q/mesh.kdl", MESH.replace("trust-domain", "trust-domian"));
    let mut client = Client::open(&fixture, ".", &json!({}));
    let found = client.diagnostics(&uri(&fixture, "q/mesh.kdl"), None);
    assert!(codes(&found).contains(&"MSH0002"), "{found:?}");
    // Outside of every root there are no findings, but it is said and answered.
    let outside = uri(&fixture, "outside.kdl");
    let text = "service a { }\n";
    client.did_open(&outside, text);
    let said = client.wait(|message| message["method"] == "window/logMessage");
    assert!(
        said["params"]["message"]
            .as_str()
            .unwrap()
            .contains("in no policy root")
    );
    let hover = client.request("textDocument/hover", &at(&outside, text, "service", 1));
    assert!(
        hover.unwrap()["contents"]["value"]
            .as_str()
            .unwrap()
            .contains("service NAME")
    );
    // A file that is not there yet, in a root that is not there yet.
    let new = uri(&fixture, "r/deep/mesh.kdl");
    client.did_open(&new, "mesh new {\n");
    client.did_change(&new, 2, "mesh new { trust-domain \"n.example\"; tiem }\n");
    assert!(!client.diagnostics(&new, Some(2)).is_empty());
}

#[test]
fn a_client_that_errs_is_told() {
    let fixture = shop();
    let mut client = Client::start(&fixture);
    let (code, _) = client
        .request("textDocument/hover", &json!({}))
        .unwrap_err();
    assert_eq!(code, -32002);
    let (code, _) = client.request("initialize", &Value::Null).unwrap_err();
    assert_eq!(code, -32602);
    client
        .request("initialize", &json!({ "capabilities": {} }))
        .unwrap();
    let (code, _) = client
        .request("initialize", &json!({ "capabilities": {} }))
        .unwrap_err();
    assert_eq!(code, -32600);
    let (code, message) = client.request("mesh/unknown", &json!({})).unwrap_err();
    assert_eq!(
        (code, message.as_str()),
        (-32601, "meshc does not answer `mesh/unknown`")
    );
    let (code, _) = client
        .request("textDocument/hover", &json!([]))
        .unwrap_err();
    assert_eq!(code, -32602);
    let nowhere = json!({ "textDocument": { "uri": "file:///nowhere.kdl" }, "position": { "line": 0, "character": 0 } });
    let (code, _) = client.request("textDocument/hover", &nowhere).unwrap_err();
    assert_eq!(code, -32602);
    client.raw(b"Content-Length: 3\r\n\r\n{x}");
    assert_eq!(client.answer(&Value::Null).unwrap_err().0, -32700);
    client.raw(b"Content-Length: 2\r\n\r\n[]");
    assert_eq!(client.answer(&Value::Null).unwrap_err().0, -32600);
    client.notify("textDocument/didChange", &json!({ "textDocument": 1 }));
    let said = client.wait(|message| message["method"] == "window/logMessage");
    assert!(
        said["params"]["message"]
            .as_str()
            .unwrap()
            .starts_with("textDocument/didChange: ")
    );
    assert_eq!(
        client.request("shutdown", &Value::Null).unwrap(),
        Value::Null
    );
    assert_eq!(
        client.request("shutdown", &Value::Null).unwrap_err().0,
        -32600
    );
    client.notify("exit", &Value::Null);
    assert_eq!(client.ended(), (Some(0), String::new()));
}

#[test]
fn how_it_ends_says_why() {
    let fixture = shop();
    let ended = |bytes: &[u8]| {
        let mut client = Client::start(&fixture);
        client.raw(bytes);
        client.ended()
    };
    let exit = b"Content-Length: 33\r\n\r\n{\"jsonrpc\":\"2.0\",\"method\":\"exit\"}";
    assert_eq!(ended(exit), (Some(1), String::new()));
    assert_eq!(ended(b""), (Some(1), String::new()));
    for bytes in [
        &b"GET / HTTP/1.1\r\nhost\r\n\r\n"[..],
        b"Content-Length: 99999999999999\r\n\r\n{}",
        b"Content-Type: x\r\n\r\n{}",
        &[b'x'; 5000],
    ] {
        let (code, said) = ended(bytes);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.starts_with("meshc: "), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn the_first_check_shows_that_it_runs() {
    let fixture = shop();
    let window = json!({ "window": { "workDoneProgress": true } });
    let mut client = Client::open(&fixture, "p", &window);
    let created = client.wait(|message| message["method"] == "window/workDoneProgress/create");
    let token = created["params"]["token"].clone();
    for kind in ["begin", "end"] {
        client.wait(|message| {
            message["method"] == "$/progress"
                && message["params"]["token"] == token
                && message["params"]["value"]["kind"] == kind
        });
    }
}

#[test]
fn the_files_for_editors_are_what_they_say() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ci/editor/vscode/");
    let read = |path: &str| -> Value {
        let text = fs::read_to_string(format!("{folder}{path}")).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let package = read("package.json");
    let contributes = &package["contributes"];
    let configuration = contributes["languages"][0]["configuration"]
        .as_str()
        .unwrap();
    assert!(read(configuration)["comments"]["lineComment"] == "//");
    let grammar = read(contributes["grammars"][0]["path"].as_str().unwrap());
    assert_eq!(
        grammar["scopeName"],
        contributes["grammars"][0]["scopeName"]
    );
    let main = package["main"].as_str().unwrap();
    assert!(
        fs::read_to_string(format!("{folder}{main}"))
            .unwrap()
            .contains("\"lsp\"")
    );
}
