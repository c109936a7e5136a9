;; Uses tail calls. Must be refused when it is installed.
(component (core module (func $f (return_call $f))))
