"""One self-contained HTML page to walk through a hierarchy; `onnxplain serve` shows the same one live."""

from onnxplain.page.document import page_document as page_document
from onnxplain.page.html import page_html as page_html
from onnxplain.page.html import write_page as write_page
