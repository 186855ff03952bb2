module github.com/acme/parts

go 1.21
