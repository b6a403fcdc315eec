-- Starts `meshc lsp` for policy files. Neovim 0.7 and later; no plugin is needed.
--
-- vim.g.meshc_path: the program, if it is not on the PATH.

local function root_of(path)
  local folder = vim.fn.fnamemodify(path, ":p:h")
  local found = vim.fn.finddir(".git", folder .. ";")
  if found ~= "" then
    return vim.fn.fnamemodify(found, ":p:h:h")
  end
  return folder
end

local clients = {}

local function start(buffer)
  local name = vim.api.nvim_buf_get_name(buffer)
  if name == "" then
    return
  end
  local root = root_of(name)
  local config = {
    name = "meshc",
    cmd = { vim.g.meshc_path or "meshc", "lsp" },
    root_dir = root,
    workspace_folders = { { uri = vim.uri_from_fname(root), name = vim.fn.fnamemodify(root, ":t") } },
  }
  if vim.lsp.start then
    vim.lsp.start(config, { bufnr = buffer })
    return
  end
  -- Before 0.8 nobody keeps one client for each root but the configuration itself.
  if not clients[root] or not vim.lsp.get_client_by_id(clients[root]) then
    clients[root] = vim.lsp.start_client(config)
  end
  if clients[root] then
    vim.lsp.buf_attach_client(buffer, clients[root])
  end
end

vim.api.nvim_create_autocmd({ "BufReadPost", "BufNewFile" }, {
  pattern = "*.kdl",
  group = vim.api.nvim_create_augroup("meshc", { clear = true }),
  callback = function(event)
    local buffer = event.buf or tonumber(vim.fn.expand("<abuf>"))
    vim.bo[buffer].filetype = "kdl"
    vim.bo[buffer].commentstring = "// %s"
    start(buffer)
  end,
})
