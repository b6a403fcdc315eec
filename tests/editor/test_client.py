"""`meshc lsp` with the client that pygls' authors test servers with, as VS Code, Neovim and Emacs present themselves."""

import asyncio
import pathlib

import pytest
import pytest_lsp
from lsprotocol import types
from pytest_lsp import ClientServerConfig, LanguageClient, client_capabilities

from conftest import program

PATIENCE = 60


@pytest_lsp.fixture(
    params=["visual-studio-code", "neovim", "emacs"],
    config=ClientServerConfig(server_command=[program(), "lsp"]),
)
async def client(request, lsp_client: LanguageClient, bookshop: pathlib.Path):
    # Some of these editors say that they can be asked to watch files; the client that plays them has no answer.
    @lsp_client.feature("client/registerCapability")
    def register(params: types.RegistrationParams):
        assert {one.method for one in params.registrations} == {
            "workspace/didChangeWatchedFiles"
        }

    await lsp_client.initialize_session(
        types.InitializeParams(
            capabilities=client_capabilities(request.param),
            workspace_folders=[
                types.WorkspaceFolder(uri=bookshop.as_uri(), name="bookshop")
            ],
        )
    )
    yield
    await lsp_client.shutdown_session()


class Document:
    """A file of the bookshop that is open in the editor."""

    def __init__(self, client: LanguageClient, path: pathlib.Path):
        self.client = client
        self.uri = path.as_uri()
        self.text = path.read_text()
        self.version = 1
        client.text_document_did_open(
            types.DidOpenTextDocumentParams(
                text_document=types.TextDocumentItem(
                    uri=self.uri, language_id="kdl", version=1, text=self.text
                )
            )
        )

    def change(self, before: str, after: str):
        assert before in self.text
        self.text = self.text.replace(before, after, 1)
        self.version += 1
        self.client.text_document_did_change(
            types.DidChangeTextDocumentParams(
                text_document=types.VersionedTextDocumentIdentifier(
                    uri=self.uri, version=self.version
                ),
                content_changes=[
                    types.TextDocumentContentChangeWholeDocument(text=self.text)
                ],
            )
        )

    def at(self, part: str, after: int = 0) -> dict:
        offset = self.text.index(part) + after
        before = self.text[:offset]
        position = types.Position(
            line=before.count("\n"), character=len(before.rsplit("\n", 1)[-1])
        )
        document = types.TextDocumentIdentifier(uri=self.uri)
        return {"text_document": document, "position": position}

    async def codes(self, expected) -> list:
        """The findings of the file, once they are what is expected."""

        def errors():
            found = self.client.diagnostics.get(self.uri, [])
            return [one.code for one in found if one.severity == types.DiagnosticSeverity.Error]

        async with asyncio.timeout(PATIENCE):
            while not expected(errors()):
                await self.client.wait_for_notification("textDocument/publishDiagnostics")
        return self.client.diagnostics.get(self.uri, [])


@pytest.mark.asyncio
async def test_findings_follow_the_text(client: LanguageClient, bookshop: pathlib.Path):
    reviews = Document(client, bookshop / "teams/reviews/reviews.kdl")
    reviews.change("route everyone {", "tiemout \"1s\"\n    route everyone {")
    found = await reviews.codes(lambda codes: codes == ["MSH0002"])
    finding = next(one for one in found if one.code == "MSH0002")
    assert finding.source == "meshc"
    assert "did you mean `timeout`?" in finding.message

    actions = await client.text_document_code_action_async(
        types.CodeActionParams(
            text_document=types.TextDocumentIdentifier(uri=reviews.uri),
            range=finding.range,
            context=types.CodeActionContext(
                diagnostics=[finding], only=[types.CodeActionKind.QuickFix]
            ),
        )
    )
    assert [action.title for action in actions] == ["write `timeout`"]

    reviews.change("tiemout \"1s\"\n    ", "")
    await reviews.codes(lambda codes: codes == [])


@pytest.mark.asyncio
async def test_a_change_is_seen_in_other_files(client: LanguageClient, bookshop: pathlib.Path):
    productpage = Document(client, bookshop / "teams/storefront/productpage.kdl")
    reviews = Document(client, bookshop / "teams/reviews/reviews.kdl")
    reviews.change("service reviews {", "service opinions {")
    await productpage.codes(lambda codes: "MSH0101" in codes)
    reviews.change("service opinions {", "service reviews {")
    await productpage.codes(lambda codes: codes == [])


@pytest.mark.asyncio
async def test_questions(client: LanguageClient, bookshop: pathlib.Path):
    reviews = Document(client, bookshop / "teams/reviews/reviews.kdl")
    await reviews.codes(lambda codes: codes == [])
    # The first findings of a file can come before those of the whole repository.
    async with asyncio.timeout(PATIENCE):
        while True:
            hover = await client.text_document_hover_async(
                types.HoverParams(**reviews.at("calls ratings", 7))
            )
            if "1500ms" in hover.contents.value:
                break
            await client.wait_for_notification("textDocument/publishDiagnostics")
    assert "teams/reviews/reviews.kdl:" in hover.contents.value

    found = await client.text_document_definition_async(
        types.DefinitionParams(**reviews.at("calls ratings", 7))
    )
    assert [one.uri for one in found] == [(bookshop / "teams/reviews/ratings.kdl").as_uri()]

    references = await client.text_document_references_async(
        types.ReferenceParams(
            context=types.ReferenceContext(include_declaration=True),
            **reviews.at("service reviews", 8),
        )
    )
    assert len({one.uri for one in references}) > 5

    edit = await client.text_document_rename_async(
        types.RenameParams(new_name="stable", **reviews.at("subset v1", 7))
    )
    if edit.document_changes:
        changed = {change.text_document.uri: len(change.edits) for change in edit.document_changes}
    else:
        changed = {uri: len(edits) for uri, edits in edit.changes.items()}
    assert changed[reviews.uri] == 2
    assert (bookshop / "environments/staging/reviews.kdl").as_uri() in changed

    symbols = await client.text_document_document_symbol_async(
        types.DocumentSymbolParams(text_document=types.TextDocumentIdentifier(uri=reviews.uri))
    )
    assert [symbol.name for symbol in symbols] == ["reviews"]
    assert {"v1", "v2", "testers", "everyone"} <= {child.name for child in symbols[0].children}


@pytest.mark.asyncio
async def test_completion(client: LanguageClient, bookshop: pathlib.Path):
    reviews = Document(client, bookshop / "teams/reviews/reviews.kdl")
    reviews.change("calls ratings {", "calls {")
    items = await client.text_document_completion_async(
        types.CompletionParams(**reviews.at("calls {", 6))
    )
    assert {"ratings", "details", "productpage"} <= {item.label for item in items}
    reviews.change("calls {", "tim\n    calls ratings {")
    items = await client.text_document_completion_async(
        types.CompletionParams(**reviews.at("tim\n", 3))
    )
    timeout = next(item for item in items if item.label == "timeout")
    assert timeout.text_edit.range.start.character == 4
