// The VS Code extension without VS Code: its manifest names what is there, and it starts and ends the real server in a
// host that stands in for the editor's. Needs node alone; MESHC names the program.
"use strict";

const assert = require("node:assert");
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const Module = require("node:module");
const path = require("node:path");
const test = require("node:test");

const folder = path.join(__dirname, "../../ci/editor/vscode");
const manifest = JSON.parse(fs.readFileSync(path.join(folder, "package.json"), "utf8"));
const settings = { path: process.env.MESHC, environment: "" };
const host = { commands: {}, errors: [], asked: [], changed: undefined, clients: [] };

/** A client that speaks as much of the protocol as begins and ends a conversation. */
class LanguageClient {
  constructor(id, name, server, client) {
    Object.assign(this, { id, server: server.run, client, answers: new Map(), said: Buffer.alloc(0) });
    host.clients.push(this);
  }

  send(message) {
    const text = JSON.stringify({ jsonrpc: "2.0", ...message });
    this.child.stdin.write(`Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
  }

  ask(id, method, params) {
    return new Promise((answer) => {
      this.answers.set(id, answer);
      this.send({ id, method, params });
    });
  }

  heard(chunk) {
    this.said = Buffer.concat([this.said, chunk]);
    for (;;) {
      const head = this.said.indexOf("\r\n\r\n");
      if (head < 0) return;
      const length = Number(/Content-Length: (\d+)/.exec(this.said.subarray(0, head))[1]);
      if (this.said.length < head + 4 + length) return;
      const message = JSON.parse(this.said.subarray(head + 4, head + 4 + length));
      this.said = this.said.subarray(head + 4 + length);
      this.answers.get(message.id)?.(message);
    }
  }

  async start() {
    this.child = spawn(this.server.command, this.server.args, { stdio: ["pipe", "pipe", "inherit"] });
    await new Promise((resolve, reject) => {
      this.child.once("spawn", resolve);
      this.child.once("error", reject);
    });
    this.ended = new Promise((ended) => this.child.once("exit", ended));
    this.child.stdout.on("data", (chunk) => this.heard(chunk));
    const { result } = await this.ask(1, "initialize", { processId: null, rootUri: null, capabilities: {} });
    this.capabilities = result.capabilities;
    this.send({ method: "initialized", params: {} });
  }

  async stop() {
    await this.ask(2, "shutdown", null);
    this.send({ method: "exit" });
    this.code = await this.ended;
  }
}

const modules = {
  vscode: {
    commands: {
      registerCommand(name, run) {
        host.commands[name] = run;
        return { dispose() {} };
      },
    },
    window: { showErrorMessage: (text) => host.errors.push(text) },
    workspace: {
      getConfiguration: (section) => ({
        get(name) {
          host.asked.push(`${section}.${name}`);
          return settings[name];
        },
      }),
      onDidChangeConfiguration(run) {
        host.changed = run;
        return { dispose() {} };
      },
    },
  },
  "vscode-languageclient/node": { LanguageClient },
};
const load = Module._load;
Module._load = (name, ...rest) => modules[name] ?? load(name, ...rest);
const extension = require(path.join(folder, manifest.main));

test("the manifest names what is there", () => {
  const { languages, grammars, configuration, commands } = manifest.contributes;
  for (const file of [manifest.main, languages[0].configuration, grammars[0].path]) {
    assert.ok(fs.existsSync(path.join(folder, file)), file);
  }
  const grammar = JSON.parse(fs.readFileSync(path.join(folder, grammars[0].path), "utf8"));
  assert.strictEqual(grammar.scopeName, grammars[0].scopeName);
  assert.ok(Object.keys(configuration.properties).every((name) => name.startsWith("meshc.")));
  assert.match(manifest.version, /^\d+\.\d+\.\d+$/);
  assert.match(manifest.engines.vscode, /^\^\d+\.\d+\.\d+$/);
  assert.deepStrictEqual(commands.map(({ command }) => command), ["meshc.restart"]);
});

test("every pattern can be read, and what is included is there", () => {
  const { grammars, languages } = manifest.contributes;
  const grammar = JSON.parse(fs.readFileSync(path.join(folder, grammars[0].path), "utf8"));
  const configuration = JSON.parse(fs.readFileSync(path.join(folder, languages[0].configuration), "utf8"));
  let patterns = 0;
  const look = (value) => {
    for (const [key, inner] of Object.entries(value)) {
      if (key === "include") assert.ok(inner.slice(1) in grammar.repository, inner);
      if (typeof inner === "object" && inner !== null) look(inner);
      if (["match", "begin", "end"].includes(key) || key.endsWith("Pattern")) {
        // `\1` of an `end` means a group of `begin`.
        assert.doesNotThrow(() => new RegExp(inner), inner);
        patterns += 1;
      }
    }
  };
  look(grammar);
  look(configuration);
  assert.ok(patterns > 10, `${patterns} patterns`);
});

test("it starts the server, follows its settings and ends it", async () => {
  await extension.activate({ subscriptions: [] });
  assert.deepStrictEqual(host.errors, []);
  const [first] = host.clients;
  assert.deepStrictEqual(first.server.args, ["lsp"]);
  assert.deepStrictEqual(first.client.documentSelector, [{ language: manifest.contributes.languages[0].id }]);
  assert.ok(first.capabilities.hoverProvider);
  for (const name of host.asked) {
    assert.ok(name in manifest.contributes.configuration.properties, `${name} is a setting`);
  }
  // Two changes at once are one after the other.
  settings.environment = "prod";
  const change = { affectsConfiguration: (section) => section === "meshc" };
  await Promise.all([host.changed(change), host.changed(change)]);
  await host.changed({ affectsConfiguration: () => false });
  assert.strictEqual(host.clients.length, 3);
  assert.deepStrictEqual(host.clients[2].server.args, ["lsp", "--env", "prod"]);
  await extension.deactivate();
  assert.deepStrictEqual(host.clients.map(({ code }) => code), [0, 0, 0]);
});

test("a program that is not there is said, and can be mended", async () => {
  settings.path = path.join(folder, "no-such-program");
  await host.commands["meshc.restart"]();
  assert.match(host.errors[0], /meshc could not be started \(setting "meshc\.path"\)/);
  settings.path = process.env.MESHC;
  await host.commands["meshc.restart"]();
  assert.strictEqual(host.errors.length, 1);
  await extension.deactivate();
});
