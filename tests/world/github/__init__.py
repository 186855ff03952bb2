"""GitHub as far as the world needs it; nginx stands in front and speaks TLS.

A room for each host: `site` is github.com (git and git-lfs over HTTP, `<user>.keys`), `api` is
api.github.com: the operations of an App in `apps`, what `gh` asks for in `rest` and `graphql`. All
are functions from a `Request` to a `Response`. What is known is in `store` (repositories, as files)
and `state` (everything else); what a token may do, in `grants`. `description` holds the API to what
GitHub has published of it, `faults` breaks it on purpose, `record` remembers what was asked, and
`control` is how the machine itself, and nobody else, reaches in: the command `github-fake`.
"""
