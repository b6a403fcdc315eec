// Starts `meshc lsp` and connects it to the editor.
"use strict";

const vscode = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;
// One thing after the other: a client that starts can't be stopped.
let last = Promise.resolve();

function start() {
  const settings = vscode.workspace.getConfiguration("meshc");
  const environment = settings.get("environment");
  const args = environment ? ["lsp", "--env", environment] : ["lsp"];
  const server = { command: settings.get("path") || "meshc", args };
  client = new LanguageClient(
    "meshc",
    "meshc",
    { run: server, debug: server },
    { documentSelector: [{ language: "kdl" }] },
  );
  return client.start().catch((error) => {
    client = undefined;
    vscode.window.showErrorMessage(
      `meshc could not be started (setting "meshc.path"): ${error.message}`,
    );
  });
}

async function stop() {
  const stopped = client;
  client = undefined;
  if (stopped) {
    // One that failed has nothing to stop.
    await stopped.stop().catch(() => {});
  }
}

function restart() {
  last = last.then(stop).then(start);
  return last;
}

exports.activate = async function activate(context) {
  context.subscriptions.push(
    vscode.commands.registerCommand("meshc.restart", restart),
    vscode.workspace.onDidChangeConfiguration((change) => {
      if (change.affectsConfiguration("meshc")) {
        return restart();
      }
      return undefined;
    }),
  );
  await restart();
};

exports.deactivate = function deactivate() {
  last = last.then(stop);
  return last;
};
