package state

import (
	"bytes"
	"encoding/json"
)

// metadata checks one kind of metadata that is given whole; nil is old.
func metadata(param string, old Metadata, given json.RawMessage) (Metadata, error) {
	if absent(given) {
		return old, nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(given, &object); err != nil {
		return "", Invalid(param, "a JSON object")
	}
	return checkedMetadata(param, given)
}

// merge merges a patch deeply into metadata: null removes a key.
func merge(param string, old Metadata, patch json.RawMessage) (Metadata, error) {
	if absent(patch) {
		return old, nil
	}
	merged, ok := mergeObjects([]byte(old.JSON()), patch)
	if !ok {
		return "", Invalid(param, "a JSON object")
	}
	return checkedMetadata(param, merged)
}

func absent(given json.RawMessage) bool {
	given = bytes.TrimSpace(given)
	return len(given) == 0 || string(given) == "null"
}

func checkedMetadata(param string, text []byte) (Metadata, error) {
	var m Metadata
	if err := m.UnmarshalJSON(text); err != nil {
		return "", Invalid(param, "a JSON object")
	}
	if len(m) > MaxMetadata {
		return "", tooLarge(param)
	}
	return m, nil
}

// mergeObjects works on raw members, so that what the patch does not name keeps
// its text. It is not ok if the patch is no object.
func mergeObjects(old, patch []byte) (merged []byte, ok bool) {
	var from, to map[string]json.RawMessage
	if json.Unmarshal(patch, &from) != nil || from == nil {
		return nil, false
	}
	if json.Unmarshal(old, &to) != nil || to == nil {
		to = map[string]json.RawMessage{}
	}
	for key, value := range from {
		if absent(value) {
			delete(to, key)
			continue
		}
		if inner, ok := mergeObjects(to[key], value); ok {
			value = inner
		}
		to[key] = value
	}
	merged, err := marshal(to)
	return merged, err == nil
}
