;; Uses two memories in one module. Must be refused when it is installed.
(component (core module (memory 1) (memory 1)))
