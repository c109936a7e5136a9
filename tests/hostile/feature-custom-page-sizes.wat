;; Uses memory pages of one byte. Must be refused when it is installed.
(component (core module (memory 1 (pagesize 1))))
