// Starts `meshc lsp` and connects it to the editor.
"use strict";

const vscode = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

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
    vscode.window.showErrorMessage(
      `meshc could not be started (setting "meshc.path"): ${error.message}`,
    );
  });
}

async function restart() {
  if (client) {
    await client.stop().catch(() => {});
  }
  await start();
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
  await start();
};

exports.deactivate = function deactivate() {
  return client ? client.stop() : undefined;
};
