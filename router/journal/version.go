package journal

import (
	"encoding/json"
	"errors"
	"fmt"
)

// ErrVersion says that a record is of a newer Isthmus, whose rules are not known here: who goes on without it may tell clients something else, or serve another home.
var ErrVersion = errors.New("written by a newer version of Isthmus; upgrade this node")

// Version is that of a record, which is JSON with the version as "v"; 0 without one. One above the newest that is known is [ErrVersion], whatever else is in the record.
func Version(key, value []byte, newest int) (int, error) {
	var v struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return 0, fmt.Errorf("read a version: %w", err)
	}
	if v.V > newest {
		return v.V, fmt.Errorf("key %.100q: version %d, known is %d: %w", key, v.V, newest, ErrVersion)
	}
	return v.V, nil
}
