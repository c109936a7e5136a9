;; Looks for variables, arguments and a folder of the host's. Must find none.
(import "wasi:cli/environment@0.2.6" "get-environment" (func $environment (param i32)))
(import "wasi:cli/environment@0.2.6" "get-arguments" (func $arguments (param i32)))
(import "wasi:cli/environment@0.2.6" "initial-cwd" (func $folder (param i32)))
(run
    (call $environment (i32.const 1536))
    (if (i32.load (i32.const 1540)) (then unreachable))
    (call $arguments (i32.const 1536))
    (if (i32.load (i32.const 1540)) (then unreachable))
    (call $folder (i32.const 1536))
    (if (i32.load8_u (i32.const 1536)) (then unreachable))
    (call $fine))
