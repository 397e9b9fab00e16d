# Distributed under the terms of the MIT license
# Not built in continuous integration.

EAPI=8

DISTUTILS_USE_PEP517=hatchling
PYTHON_COMPAT=( python3_{11..14} )

inherit distutils-r1 pypi

DESCRIPTION="Daemonless, unprivileged container image builder"
HOMEPAGE="https://pypi.org/project/img-builder/"
SRC_URI+=" embedded-runc? ( https://raw.githubusercontent.com/opencontainers/runc/v1.1.15/LICENSE -> runc-1.1.15-LICENSE )"

LICENSE="MIT embedded-runc? ( Apache-2.0 )"
SLOT="0"
KEYWORDS="~amd64 ~arm64"
IUSE="embedded-runc fuse"
RESTRICT="test" # the tests need namespaces

RDEPEND="
	app-misc/ca-certificates
	>=dev-python/click-8.1[${PYTHON_USEDEP}]
	>=dev-python/httpcore-0.16[${PYTHON_USEDEP}]
	>=dev-python/httpx-0.25[${PYTHON_USEDEP}]
	>=dev-python/jsonschema-4.10[${PYTHON_USEDEP}]
	>=dev-python/pluggy-1.2[${PYTHON_USEDEP}]
	>=dev-python/stevedore-4.0[${PYTHON_USEDEP}]
	dev-python/truststore[${PYTHON_USEDEP}]
	>=dev-python/xattr-0.10.1[${PYTHON_USEDEP}]
	embedded-runc? ( sys-libs/libseccomp )
	fuse? (
		sys-fs/fuse:3
		>=dev-python/pyfuse3-3.4[${PYTHON_USEDEP}]
		dev-python/trio[${PYTHON_USEDEP}]
	)
"
BDEPEND="
	>=dev-python/click-8.1[${PYTHON_USEDEP}]
	embedded-runc? ( app-containers/runc )
"

python_compile() {
	distutils-r1_python_compile
	local directory
	for directory in $(usev fuse plugins/img-snapshotter-fuse) $(usev embedded-runc plugins/img-runc-embedded); do
		pushd "${directory}" >/dev/null || die
		if use embedded-runc; then
			export IMG_RUNC_BINARY="${BROOT}/usr/bin/runc" IMG_RUNC_LICENSE="${DISTDIR}/runc-1.1.15-LICENSE"
			export IMG_RUNC_SHA256="$(sha256sum "${IMG_RUNC_BINARY}" | cut -d' ' -f1)"
		fi
		distutils_pep517_install "${BUILD_DIR}/install"
		popd >/dev/null || die
	done
}

python_install_all() {
	distutils-r1_python_install_all
	insinto /usr/lib/img/plugins.d
	doins contrib/packaging/debian/10-embedded-runc.toml
}
