"""GitHub as far as the world needs it; nginx stands in front and speaks TLS.

A room for each host: `site` is github.com (git over HTTP, `<user>.keys`), `api` is
api.github.com. Both are functions from a `Request` to a `Response`, so that the API can grow
without any of this changing.
"""
