;; Looks for a terminal to take over. Must find none.
(import "wasi:cli/terminal-stdout@0.2.6" "get-terminal-stdout" (func $terminal (param i32)))
(run
    (call $terminal (i32.const 1536))
    (if (i32.load8_u (i32.const 1536)) (then unreachable))
    (call $fine))
