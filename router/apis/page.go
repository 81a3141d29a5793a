package apis

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

const pageHead = `# What the router does with each request

Made from the table in router/apis/table.go by its test: ` + "`go test ./router/apis -update`" + ` writes it anew.

Clients of a router are told the versions below, as far as every broker of every cluster that may become home speaks them. They are told the
same for as long as they live. What is hidden they do not learn of; who sends it anyway is hung up on, as brokers do.

- *forward*: request and answer pass as they are.
- *patch*: they pass with what the letters say written over.
- *answer here*: the home is not asked.

| letter | the message has | clients see |
|---|---|---|
| A | ids, hosts and ports of brokers | the slots of the router |
| C | the cluster's id | the virtual cluster's |
| T | ids of topics | none |
| E | epochs of leaders | −1, which means that none is known |
| O | offsets | those of the home, as there is no switch yet |
| P | ids of producers | the router's own if idempotent, the home's if transactional, behind a switch with a tag |
| G | members and generations of groups | those of the home, as there is no switch yet |
| V | versions | this table |

| key | request | versions | | in the request | in the answer | |
|---|---|---|---|---|---|---|
`

// Page is docs/router-apis.md.
func Page() string {
	rows := slices.Clone(table)
	slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(a.Key, b.Key) })
	var b strings.Builder
	b.WriteString(pageHead)
	for i, r := range rows {
		key, name := fmt.Sprint(int16(r.Key)), r.Key.Name()
		if i > 0 && rows[i-1].Key == r.Key {
			key, name = "", ""
		}
		versions := fmt.Sprint(r.From)
		if r.To > r.From {
			versions = fmt.Sprintf("%d–%d", r.From, r.To)
		}
		for _, cell := range []string{key, name, versions, r.Does.String(), r.Request.String(), r.Answer.String(), r.Why} {
			b.WriteString("|")
			if cell != "" {
				b.WriteString(" " + cell)
			}
			b.WriteString(" ")
		}
		b.WriteString("|\n")
	}
	return b.String()
}
