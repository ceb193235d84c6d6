// Orphans runs a command and fails if a process that it started outlives it.
//
//	go run ./.ci/orphans COMMAND [ARGUMENT…]
//
// It exits with the command's code, or 1 when something was left behind; what
// was left is named and killed. On Linux it adopts every orphan below it, so it
// sees exactly the command's own, whatever they are called and whoever else
// works on the machine. Elsewhere the command just runs.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: orphans COMMAND [ARGUMENT…]")
		os.Exit(2)
	}
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "orphans:", err)
		if code == 0 {
			code = 1
		}
	}
	os.Exit(code)
}
