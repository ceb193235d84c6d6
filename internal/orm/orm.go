// Package orm describes a store's tables and views to the tools with which a
// service reads them. What there is comes from the store's own description;
// this package only spells it.
package orm

import (
	"fmt"
	"strings"

	"github.com/rollcall-dev/rollcall/internal/store"
)

// Prisma, Drizzle and SQLC are the formats.
const (
	Prisma  = "prisma"  // models and views for a schema of several files
	Drizzle = "drizzle" // a TypeScript module
	SQLC    = "sqlc"    // DDL for sqlc's `schema:`, in which views stand as tables
)

// Describe is the text of a file in that format; the same for the same store.
// schema is the one in which the relations are.
func Describe(format, schema string, relations []store.Relation) (string, error) {
	switch format {
	case Prisma:
		return prisma(schema, relations), nil
	case Drizzle:
		return drizzle(schema, relations), nil
	case SQLC:
		return sqlc(schema, relations), nil
	}
	return "", fmt.Errorf("there is no format %q", format)
}

// pascal is OrganizationMembership for organizationMembership and for
// organization_membership.
func pascal(name string) string {
	var b strings.Builder
	for _, word := range strings.Split(name, "_") {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}

func camel(name string) string {
	p := pascal(name)
	return strings.ToLower(p[:1]) + p[1:]
}
