-- Run inside of Neovim by neovim.sh: writes "ok" or what is wrong to the file of $RESULT.

local function finish(text)
  local file = io.open(os.getenv("RESULT"), "w")
  file:write(text)
  file:close()
  vim.cmd("qall!")
end

local function wait(what, condition)
  if not vim.wait(60000, condition, 20) then
    error("in vain: " .. what)
  end
end

local function errors()
  return #vim.diagnostic.get(0, { severity = vim.diagnostic.severity.ERROR })
end

-- The line and column, from 0, of a part of the buffer.
local function at(part)
  for number, line in ipairs(vim.api.nvim_buf_get_lines(0, 0, -1, false)) do
    local column = line:find(part, 1, true)
    if column then
      return number - 1, column - 1
    end
  end
  error("no " .. part)
end

local function ask(method, params)
  local answers = vim.lsp.buf_request_sync(0, method, params, 30000)
  for _, answer in pairs(answers or {}) do
    if answer.error then
      error(method .. ": " .. answer.error.message)
    end
    return answer.result
  end
  error("no answer to " .. method)
end

local ok, message = pcall(function()
  wait("a server", function()
    return #vim.lsp.buf_get_clients(0) > 0
  end)
  local client = select(2, next(vim.lsp.buf_get_clients(0)))
  wait("an answer to initialize", function()
    return client.initialized
  end)

  -- Findings come, and go when they are mended.
  local line = at("route everyone")
  vim.api.nvim_buf_set_lines(0, line, line, false, { '    tiemout "1s"' })
  wait("a finding", function()
    return errors() == 1
  end)
  assert(vim.diagnostic.get(0)[1].message:find("did you mean `timeout`?", 1, true))
  vim.api.nvim_buf_set_lines(0, line, line + 1, false, {})
  wait("no finding", function()
    return errors() == 0
  end)

  -- The definition is in another file.
  local row, column = at("calls ratings")
  local document = { uri = vim.uri_from_bufnr(0) }
  local position = { line = row, character = column + 7 }
  local found = ask("textDocument/definition", { textDocument = document, position = position })
  assert(found[1].uri:find("teams/reviews/ratings.kdl", 1, true), vim.inspect(found))

  -- A rename reaches this buffer and files that are not open.
  row, column = at("subset v1")
  position = { line = row, character = column + 8 }
  local edit = ask("textDocument/rename", { textDocument = document, position = position, newName = "stable" })
  vim.lsp.util.apply_workspace_edit(edit, client.offset_encoding)
  at("subset stable")
  at("to stable weight=90")
  wait("no finding after the rename", function()
    return errors() == 0
  end)
  local staging = vim.fn.bufnr("environments/staging/reviews.kdl")
  local lines = table.concat(vim.api.nvim_buf_get_lines(staging, 0, -1, false), "\n")
  assert(lines:find("to stable weight=50", 1, true), lines)

  -- Formatting puts a line where it belongs.
  row = at("allow productpage")
  vim.api.nvim_buf_set_lines(0, row, row + 1, false, { "  allow productpage {" })
  local edits = ask("textDocument/formatting", { textDocument = document, options = { tabSize = 4, insertSpaces = true } })
  vim.lsp.util.apply_text_edits(edits, 0, client.offset_encoding)
  at("    allow productpage {")
end)
finish(ok and "ok" or tostring(message))
