package main

import (
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/isthmus-project/isthmus/topology"
)

// settingKey takes a key as people write it: as the node has it, link/eu-us/topics, or with dots, link.eu-us.topics. Names of
// nodes and topics may hold dots, so only the dots around them count.
func settingKey(text string) string {
	kind, rest, ok := strings.Cut(text, ".")
	if !ok || strings.Contains(text, "/") {
		return text
	}
	switch kind {
	case "link", "cluster", "router":
		name, field, ok := strings.Cut(rest, ".")
		if !ok {
			return kind + "/" + name
		}
		return kind + "/" + name + "/" + field
	case "pause":
		link, what, ok := strings.Cut(rest, ".")
		at := strings.LastIndexByte(what, '.')
		if !ok || at < 0 {
			return text
		}
		return kind + "/" + link + "/" + what[:at] + "/" + what[at+1:]
	case "drain", "log":
		return kind + "/" + rest
	}
	return text
}

// settingValue takes the value of a key as people write it: TOML, as in a topology file, or a text without its quotes. Only
// fields have TOML; absent is a word of its own. What is meant as a list or a table and is not right is left as it is: the node
// says what is wrong with it.
func settingValue(key, text string) string {
	parts := strings.Split(key, "/")
	if len(parts) != 3 || !slices.Contains([]string{"link", "cluster", "router"}, parts[0]) || text == topology.Absent {
		return text
	}
	var parsed struct{ V any }
	if toml.Unmarshal([]byte("v = "+text), &parsed) == nil || strings.ContainsAny(text, "\"'[]{}\n") {
		return text
	}
	return `"` + strings.ReplaceAll(text, `\`, `\\`) + `"`
}
